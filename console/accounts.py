"""Who you are: root accounts and their RAM users."""

from collections.abc import Callable
from typing import ClassVar, Self

from django.contrib.auth.models import AbstractUser, UserManager
from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext_lazy as _

from console.permanent import permanent


@permanent
class User(AbstractUser):
    """A root account, or a RAM user: a member of one, who may log on but not manage keys."""

    first_name = None  # type: ignore[assignment]
    last_name = None  # type: ignore[assignment]
    account = models.ForeignKey(
        "self",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        limit_choices_to={"account": None},
        related_name="ram_users",
        verbose_name=_("root account"),
        help_text=_("The root account that this RAM user belongs to. Leave empty to create a root account."),
    )

    # This account's own limits; NULL stands for the installation's.
    max_active_keys = models.PositiveSmallIntegerField(_("maximum active keys"), null=True, blank=True)
    max_keys_a_day = models.PositiveSmallIntegerField(_("maximum keys created per day"), null=True, blank=True)

    objects: ClassVar[UserManager[Self]] = UserManager()
    is_verified: Callable[[], bool]  # put on request.user by django-otp's middleware

    @property
    def is_root_account(self) -> bool:
        return self.account_id is None

    @property
    def root(self) -> "User":
        """The root account: this one, or the one that this RAM user belongs to."""
        return self.account or self

    @property
    def may_log_on(self) -> bool:
        """False where the user, or its root account, is disabled."""
        return self.is_active and self.root.is_active

    def clean(self) -> None:
        super().clean()
        if self.account is not None and (self.account == self or not self.account.is_root_account):
            raise ValidationError({"account": _("Choose a root account. A RAM user cannot have RAM users of its own.")})


def lock(account: User) -> User:
    """Lock the account's row until the transaction ends and return it as it is now. Whoever takes several locks takes
    this one first."""
    return User.objects.select_for_update(no_key=True).get(pk=account.pk)
