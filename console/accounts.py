"""Root accounts and their RAM users."""

import unicodedata
from collections.abc import Callable
from typing import Any, ClassVar, Self, TypeVar

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AbstractUser, UserManager
from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from console.permanent import permanent

U = TypeVar("U", bound="User")
LONGEST_NAME = 150  # characters, as Django has it


def folded(name: str) -> str:
    """`name` as user names are compared, whatever their case (Unicode Standard Annex #15, NFKC; full case folding).

    Computed in Python: SQLite's LOWER() folds ASCII only, and PostgreSQL's depends on the database's locale."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


class Users(UserManager[U]):
    use_in_migrations = False

    def named(self, name: str) -> U | None:
        """The user of that name, in any case. Of twins (see fold_names), the one with exactly this spelling, otherwise
        the oldest."""
        if "\0" in name or len(name) > LONGEST_NAME:  # the one is an error in PostgreSQL, the other slow to fold
            return None
        found = self.filter(Q(username=name) | Q(folded_name=folded(name))).select_related("account")
        return min(found, key=lambda user: user.username != name, default=None)

    def get_by_natural_key(self, username: str | None) -> U:
        """How Django's log-on and commands look up a user. Raises DoesNotExist."""
        user = self.named(username or "")
        if user is None:
            raise self.model.DoesNotExist
        return user


@permanent
class User(AbstractUser):
    """A root account, or a RAM user: a member of one, who may log on but not manage keys."""

    first_name = None  # type: ignore[assignment]
    last_name = None  # type: ignore[assignment]
    folded_name = models.CharField(max_length=300, null=True, editable=False)  # NULL for the younger of two twins
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

    # The password was printed where others may have read it: until it is changed, no other page opens (console.access).
    must_change_password = models.BooleanField(default=False, editable=False)
    invited_at = models.DateTimeField(null=True, editable=False)  # by the invitation link that is valid, if any

    # This account's own limits; NULL means the installation's.
    max_active_keys = models.PositiveSmallIntegerField(_("maximum active keys"), null=True, blank=True)
    max_keys_a_day = models.PositiveSmallIntegerField(_("maximum keys created per day"), null=True, blank=True)

    # Of the API keys that it creates, no copy is kept that can be opened.
    show_once = models.BooleanField(_("API keys are shown once"), default=False)

    objects: ClassVar[Users[Self]] = Users()
    is_verified: Callable[[], bool]  # put on request.user by django-otp's middleware

    class Meta(AbstractUser.Meta):
        constraints = [models.UniqueConstraint(fields=["folded_name"], name="one_user_a_name")]

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

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self._state.adding:
            self.folded_name = folded(self.username)
        super().save(*args, **kwargs)

    def clean(self) -> None:
        super().clean()  # which normalizes the name, after its length was checked
        if self._state.adding:
            self.clean_name()
        if self.account is not None and (self.account == self or not self.account.is_root_account):
            raise ValidationError({"account": _("Choose a root account. A RAM user cannot have RAM users of its own.")})

    def clean_name(self) -> None:
        """Raises ValidationError where another user has this name, in any case, or where it is none once normalized."""
        field: Any = self._meta.get_field("username")
        try:
            field.run_validators(self.username)
        except ValidationError as error:
            raise ValidationError({"username": error}) from error
        others = User.objects.exclude(pk=self.pk).filter(folded_name=folded(self.username))
        if other := others.first():
            message = _("A user named %(name)s already exists. User names are not case-sensitive.")
            raise ValidationError({"username": ValidationError(message, "unique", {"name": other.username})})


def fold_names(users: "models.Manager[Any]") -> list[tuple[str, str]]:
    """Set the folded name of each user without one, unless an older user has it. Returns the pairs of twins, created by
    a version with case-sensitive names, each as the older user's name and the younger's."""
    twins = []
    for user in users.filter(folded_name=None).order_by("pk"):
        name = folded(user.username)
        if older := users.filter(folded_name=name).first():
            twins.append((older.username, user.username))
        else:
            users.filter(pk=user.pk).update(folded_name=name)
    return twins


def lock(account: User) -> User:
    """Lock the account's row until the transaction ends, and return it as it is now. Always the first lock of
    several. The password's digest is read only when it is asked for: `housekeep` may not."""
    return User.objects.select_for_update(no_key=True).defer("password").get(pk=account.pk)


class InvitationTokens(PasswordResetTokenGenerator):
    """Signed, for one use, for PASSWORD_RESET_TIMEOUT seconds; a later invitation ends the one before."""

    def _make_hash_value(self, user: AbstractBaseUser, timestamp: int) -> str:
        assert isinstance(user, User)
        return f"{super()._make_hash_value(user, timestamp)}{user.invited_at or ''}"


invitation_tokens = InvitationTokens()
