"""Who you are: accounts, their RAM users, and the factors they prove themselves with."""

import math
import secrets
import time
from base64 import b32encode
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, ClassVar, Self
from urllib.parse import quote, urlencode

from axes.models import AccessAttempt
from django.conf import settings
from django.contrib.auth.models import AbstractUser, UserManager
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import models, transaction
from django.utils import timezone
from django_otp.models import Device, ThrottlingMixin, TimestampMixin
from django_otp.oath import TOTP

from console import ledger
from console.ledger import Entry, Kind
from console.mail import Mail
from console.sessions import Session

__all__ = ["Authenticator", "Entry", "Mail", "RecoveryCodes", "Session", "User", "VaultKey"]

ISSUER = "API Key Console"
TOTP_STEP_SECONDS = 30
TOTP_TOLERANCE_STEPS = 1  # RFC 6238, 5.2: one step for the delay between reading and sending
MAX_THROTTLE = timedelta(minutes=15)
RECOVERY_CODES = 10
RECOVERY_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # 32 signs, none that reads like another
RECOVERY_LENGTH = 24  # 120 bits: enough for a plain keyed hash (OWASP ASVS 6.5.2 asks for 112)


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
            self.api_keys.update(disabled=not active)
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


class CodeRefused(Exception):
    """A security authentication that failed; the message says what to do next. Nothing else has changed."""

    status = 422


class CodeThrottled(CodeRefused):
    """The factor takes no code for some seconds, after wrong ones."""

    status = 429

    def __init__(self, until: datetime) -> None:
        self.retry_after = max(1, math.ceil((until - timezone.now()).total_seconds()))
        super().__init__(f"Too many wrong codes. Try again in {self.retry_after} s.")


def delete_in_order(factors: "models.QuerySet[Any]") -> int:
    """How many there were. In the order in which a rotation locks them, so that the two never wait for each other."""
    list(factors.order_by("pk").select_for_update())
    return factors.delete()[0]


def random_id() -> int:
    return secrets.randbits(62)


class Factor(TimestampMixin, ThrottlingMixin, Device):  # type: ignore[misc]
    """An enrolled device. `check_code` needs the row locked (console.security does that)."""

    # Drawn before the row is stored, so that what is sealed can be bound to it.
    id = models.BigIntegerField(primary_key=True, default=random_id, editable=False)

    class Meta:
        abstract = True

    def get_throttle_factor(self) -> int:
        return 1

    def throttled_until(self) -> datetime | None:
        """When a code is looked at again. django-otp doubles the wait without end; here it ends at 15 minutes."""
        allowed, why = self.verify_is_allowed()
        if allowed:
            return None
        until: datetime = min(why["locked_until"], self.throttling_failure_timestamp + MAX_THROTTLE)
        return until if until > timezone.now() else None

    def check_code(self, code: str) -> CodeRefused | None:
        """Spend `code`: None where it was good, else why not (returned, so that the count of failures is kept)."""
        if until := self.throttled_until():
            return CodeThrottled(until)
        refused = self.spend(code)
        if refused:
            self.throttle_increment()
        else:
            self.throttle_reset(commit=False)
            self.set_last_used_timestamp(commit=False)
            self.save()
        return refused

    def verify_token(self, token: str) -> bool:
        """django-otp's name for it."""
        return self.check_code(token) is None

    def spend(self, code: str) -> CodeRefused | None:
        raise NotImplementedError


class Authenticator(Factor):
    """An authenticator app (TOTP, RFC 6238: SHA-1, six digits, 30 s)."""

    sealed_secret = models.BinaryField(editable=False)
    last_step = models.BigIntegerField(default=-1, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["user"], condition=models.Q(confirmed=True), name="one_authenticator_a_user"
            )
        ]

    @classmethod
    def pending(cls, user: User) -> Self:
        """A new one, not in force before a code of it has confirmed it."""
        factor = cls(user=user, name="Authenticator app", confirmed=False)
        factor.sealed_secret = settings.VAULT.seal(factor.place, secrets.token_bytes(20))
        factor.save()
        return factor

    def confirm(self, *, replacing: bool, session: str | None = None) -> list[str]:
        """Put this one in force, alone, and return the ten recovery codes that come with it. All sessions of the user
        end but the one of that key. Raises CodeRefused where another session has enrolled meanwhile."""
        with transaction.atomic(durable=True):
            ledger.lock(self.user.root)
            User.objects.select_for_update(no_key=True).get(pk=self.user_id)
            mine = Authenticator.objects.filter(user=self.user)
            others = mine.exclude(pk=self.pk)
            lost = not mine.filter(pk=self.pk, confirmed=False).exists()
            if lost or (not replacing and others.filter(confirmed=True).exists()):
                raise CodeRefused("An authenticator was enrolled in another window. Log on with that one.")
            for _ in others.filter(confirmed=True):
                ledger.record(Kind.FACTOR_REMOVED, self.user, detail=f"{self.name} of {self.user}")
            delete_in_order(others)
            self.confirmed = True
            self.created_at = self.last_used_at = timezone.now()
            self.save(update_fields=["confirmed", "created_at", "last_used_at", "last_step"])
            ledger.record(Kind.FACTOR_ADDED, self.user, detail=f"{self.name} of {self.user}")
            Session.objects.filter(user=self.user).exclude(session_key=session).delete()
            return RecoveryCodes.issue(self.user)

    @property
    def place(self) -> str:
        return f"console.authenticator.secret:{self.user_id}:{self.id}"

    @property
    def secret(self) -> bytes:
        opened: bytes = settings.VAULT.open(self.place, bytes(self.sealed_secret))
        return opened

    @property
    def secret_text(self) -> str:
        return b32encode(self.secret).decode()

    @property
    def address(self) -> str:
        """The otpauth: address that the QR code carries (the Key URI format of authenticator apps)."""
        label = quote(f"{ISSUER}:{self.user.get_username()}")
        return f"otpauth://totp/{label}?" + urlencode({"secret": self.secret_text, "issuer": ISSUER}, quote_via=quote)

    def spend(self, code: str) -> CodeRefused | None:
        totp = TOTP(self.secret, TOTP_STEP_SECONDS)
        totp.time = time.time()
        if totp.verify(int(code), TOTP_TOLERANCE_STEPS, self.last_step + 1):
            self.last_step = totp.t()
            return None
        if totp.verify(int(code), TOTP_TOLERANCE_STEPS):
            return CodeRefused("This code was used already; wait for the next one.")
        return CodeRefused("That code is wrong. Enter the one that your authenticator app shows now.")


class RecoveryCodes(Factor):
    """Codes for one use each, of which only the keyed digests are stored."""

    digests = models.JSONField(default=list, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user"], name="one_set_of_recovery_codes_a_user")]
        verbose_name_plural = "recovery codes"

    @classmethod
    def issue(cls, user: User) -> list[str]:
        """Ten new codes, in place of any there were. Only their digests stay."""
        codes = [
            "".join(secrets.choice(RECOVERY_ALPHABET) for _ in range(RECOVERY_LENGTH)) for _ in range(RECOVERY_CODES)
        ]
        digests = [cls.digests_of(user, code)[0] for code in codes]
        with transaction.atomic():
            ledger.record(Kind.RECOVERY_CODES_MADE, user, detail=f"of {user}")
            cls.objects.update_or_create(user=user, defaults={"name": "Recovery codes", "digests": digests})
        return ["-".join(code[i : i + 6] for i in range(0, RECOVERY_LENGTH, 6)) for code in codes]

    @staticmethod
    def digests_of(user: User, code: str) -> list[str]:
        return [d.hex() for d in settings.VAULT.digests(f"recovery-code:{user.pk}", code)]

    @property
    def left(self) -> int:
        return len(self.digests)

    def spend(self, code: str) -> CodeRefused | None:
        for digest in self.digests_of(self.user, code):
            if digest in self.digests:
                self.digests.remove(digest)
                return None
        return CodeRefused("That is none of your unused recovery codes.")


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
