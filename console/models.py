"""Who you are: accounts and their RAM users; and every other table of this app, by import."""

from collections.abc import Callable
from typing import ClassVar, Self

from axes.models import AccessAttempt
from django.conf import settings
from django.contrib.auth.models import AbstractUser, UserManager
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import models, transaction

from console.factors.models import Authenticator, RecoveryCodes, delete_in_order
from console.ledger import models as ledger
from console.ledger.models import Entry, Kind
from console.outbox import Mail
from console.sessions.store import Session

__all__ = ["Authenticator", "Entry", "Mail", "RecoveryCodes", "Session", "User", "VaultKey"]


class User(AbstractUser):
    """A root account, or a RAM user: a member of one, who may log on and not manage keys."""

    first_name = None  # type: ignore[assignment]
    last_name = None  # type: ignore[assignment]
    account = models.ForeignKey(
        "self",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="ram_users",
        help_text="The root account that this RAM user belongs to; empty for a root account.",
    )

    # Of this account alone; empty for the installation's.
    max_active_keys = models.PositiveSmallIntegerField(null=True, blank=True)
    max_keys_a_day = models.PositiveSmallIntegerField(null=True, blank=True)

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
        """Not where it, or its account, is disabled."""
        return self.is_active and self.root.is_active

    def set_active(self, active: bool) -> None:
        """Enable or disable it. What is disabled stops at once: its sessions, and of a root account its keys (at the
        gate too) and its RAM users."""
        with transaction.atomic():
            ledger.lock(self.root)
            self.refresh_from_db(fields=["is_active"])
            if self.is_active == active:
                return
            ledger.record(Kind.ENABLED if active else Kind.DISABLED, self, detail=f"{self}")
            self.is_active = active
            self.save(update_fields=["is_active"])
            list(self.api_keys.order_by("pk").select_for_update())  # in the order in which a rotation locks them
            self.api_keys.update(account_disabled=not active)
            if not active:
                Session.objects.filter(models.Q(user=self) | models.Q(user__account=self)).delete()

    def reset_factors(self) -> None:
        """Take all away: the next log-on, with the password, enrols a new authenticator. Its sessions end."""
        with transaction.atomic():
            ledger.lock(self.root)
            gone = delete_in_order(Authenticator.objects.filter(user=self))
            gone += delete_in_order(RecoveryCodes.objects.filter(user=self))
            if gone:
                ledger.record(Kind.FACTOR_REMOVED, self, detail=f"all of {self}, by an operator")
            Session.objects.filter(user=self).delete()

    def lift_lockout(self) -> None:
        """Let passwords and codes be tried again at once."""
        with transaction.atomic():
            ledger.lock(self.root)
            lifted = AccessAttempt.objects.filter(username=self.username).delete()[0]
            for kind in (Authenticator, RecoveryCodes):
                throttled = kind.objects.filter(user=self, throttling_failure_count__gt=0)
                lifted += throttled.update(throttling_failure_timestamp=None, throttling_failure_count=0)
            if lifted:
                ledger.record(Kind.LOCKOUT_LIFTED, self, detail=f"of {self}")

    def clean(self) -> None:
        super().clean()
        if self.account is not None and (self.account == self or not self.account.is_root_account):
            raise ValidationError({"account": "A RAM user belongs to a root account."})


class VaultKey(models.Model):
    """The fingerprint of a key that something in this database was made with: so that a lost or a wrong one is told at
    the start, and not at the first View."""

    name = models.CharField(max_length=16, editable=False)
    version = models.PositiveIntegerField(editable=False)
    fingerprint = models.BinaryField(editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["name", "version"], name="one_fingerprint_a_version")]

    @classmethod
    def check_all(cls) -> None:
        """Know the keys at hand from now on. Raises ImproperlyConfigured where one that is known is lost or another."""
        for key in cls.objects.order_by("name", "version"):
            found = settings.VAULT.fingerprints.get((key.name, key.version))
            if found != bytes(key.fingerprint):
                problem = "is missing" if found is None else "is not the one that this database was written with"
                raise ImproperlyConfigured(
                    f"Version {key.version} of {key.name} {problem}. Without it stored keys cannot be opened or "
                    "recognised. Put back the secrets.env, or the environment, that belongs to this database; "
                    "docs/operations.md says how keys are taken out of use."
                )
        newest = {name: (version, print_) for (name, version), print_ in sorted(settings.VAULT.fingerprints.items())}
        for name, (version, fingerprint) in newest.items():  # older ones were the newest once, or are out of use
            cls.objects.get_or_create(name=name, version=version, defaults={"fingerprint": fingerprint})
