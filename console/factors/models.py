"""Factors: the devices that users authenticate with."""

import secrets
import time
from base64 import b32encode
from datetime import datetime, timedelta
from typing import Any, Self
from urllib.parse import quote, urlencode

from django.conf import settings
from django.db import models, transaction
from django.utils import timezone
from django_otp.models import Device, ThrottlingMixin, TimestampMixin
from django_otp.oath import TOTP

from console.accounts import User, lock
from console.factors.refusals import CodeRefused, CodeThrottled, Reason
from console.ledger.kinds import Kind
from console.ledger.record import record
from console.sessions.store import Session

ISSUER = "API Key Console"
TOTP_STEP_SECONDS = 30
TOTP_TOLERANCE_STEPS = 1  # RFC 6238, 5.2: one step for the delay between reading and sending
SPENT_STEPS = 100  # remembered, which only matters where the clock is set back
MAX_THROTTLE = timedelta(minutes=15)
GUESSED_AFTER = 5  # wrong codes in a row, the owner is told
SUSPENDED_AFTER = 100  # wrong codes in a row (NIST SP 800-63B-4, 3.2.2)
RECOVERY_CODES = 10
RECOVERY_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # 32 characters, none easily mistaken for another
RECOVERY_LENGTH = 24  # 120 bits: enough for a plain keyed hash (OWASP ASVS 6.5.2 asks for 112)


def delete_in_order(factors: "models.QuerySet[Any]") -> None:
    """Delete them in the order in which a rotation locks them, so that the two never deadlock."""
    list(factors.order_by("pk").select_for_update())
    factors.delete()


def throttled_until(failures: int, last: datetime) -> datetime | None:
    """When the next code is accepted after so many wrong ones in a row: 1, 2, 4 … s after the last of them, 15 minutes
    at most, also after one that a wrong clock dated in the future."""
    now = timezone.now()
    until = last + (timedelta(seconds=2 ** (failures - 1)) if failures <= 10 else MAX_THROTTLE)
    # unnoticed mutants (1): to the microsecond, the clock was ahead by those 15 minutes, or by more.
    return until if last <= now + MAX_THROTTLE and until > now else None


def random_id() -> int:
    # unnoticed mutants (1): 63 bits fit the column as well.
    return secrets.randbits(62)


class Factor(TimestampMixin, ThrottlingMixin, Device):  # type: ignore[misc]
    """An enrolled device. `check_code` needs the row locked (console.factors.authentication does that).

    Failures at the log-on are counted apart from those of sessions that are verified (django-otp's own fields):
    somebody with only the password can throttle the first, and not keep a verified owner from anything.
    """

    kind: str  # its code in the ledger
    throttled = True  # whether guesses are slowed down

    logon_failure_timestamp = models.DateTimeField(null=True, editable=False)
    logon_failure_count = models.PositiveIntegerField(default=0, editable=False)

    # Drawn before the row is stored, so that what is sealed can be bound to it.
    id = models.BigIntegerField(primary_key=True, default=random_id, editable=False)

    class Meta:
        abstract = True

    def check_code(self, code: str, *, verified: bool) -> CodeRefused | None:
        """Spend `code`, for a session that is `verified` or one that is logging on. Returns None where it was right,
        else why not: returned, not raised, so that the count of failures is committed."""
        prefix = "throttling_failure" if verified else "logon_failure"
        failures, last = self.failures(verified), getattr(self, f"{prefix}_timestamp")
        if self.throttled and failures >= SUSPENDED_AFTER:
            return CodeRefused(Reason.SUSPENDED)
        if self.throttled and failures and (until := throttled_until(failures, last)):
            return CodeThrottled(until)
        refused = self.spend(code)
        setattr(self, f"{prefix}_count", failures + 1 if refused else 0)
        if refused:
            setattr(self, f"{prefix}_timestamp", timezone.now())
        else:
            # unnoticed mutants (2): committing early writes the row once more; save() below stores it in any case.
            self.set_last_used_timestamp(commit=False)
        self.save()
        return refused

    def failures(self, verified: bool) -> int:
        count: int = self.throttling_failure_count if verified else self.logon_failure_count
        return count

    def spend(self, code: str) -> CodeRefused | None:
        raise NotImplementedError

    def clock_set_back(self) -> timedelta:
        """By about how much the clock has been set back since the last code was accepted, as far as the codes show."""
        return timedelta(0)


class Authenticator(Factor):
    """An authenticator app (TOTP, RFC 6238: SHA-1, six digits, 30 s)."""

    kind = "totp"
    sealed_secret = models.BinaryField(editable=False)
    spent_steps = models.JSONField(default=list, editable=False)  # in the order in which they were spent

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["user"], condition=models.Q(confirmed=True), name="one_authenticator_a_user"
            )
        ]

    @classmethod
    def pending(cls, user: User) -> Self:
        """A new one, in use only once one of its codes has confirmed it."""
        # unnoticed mutants (4): no page shows the name.
        factor = cls(user=user, name="Authenticator app", confirmed=False)
        factor.sealed_secret = settings.VAULT.seal(factor.place, secrets.token_bytes(20))
        factor.save()
        return factor

    def confirm(self, *, replacing: bool, session: str | None = None) -> list[str]:
        """Make this the user's only authenticator and return the ten recovery codes that come with it. Ends all of the
        user's sessions except `session`. Raises CodeRefused where another session has enrolled one meanwhile."""
        with transaction.atomic(durable=True):
            lock(self.user.root)
            lock(self.user)
            mine = Authenticator.objects.filter(user=self.user)
            others = mine.exclude(pk=self.pk)
            lost = not mine.filter(pk=self.pk, confirmed=False).exists()
            if lost or (not replacing and others.filter(confirmed=True).exists()):
                raise CodeRefused(Reason.ENROLLED_ELSEWHERE)
            for other in others.filter(confirmed=True):
                record(Kind.FACTOR_REMOVED, self.user, user=self.user.username, factor=other.kind)
            delete_in_order(others)
            self.confirmed = True
            self.created_at = self.last_used_at = timezone.now()
            self.save(update_fields=["confirmed", "created_at", "last_used_at", "spent_steps"])
            record(Kind.FACTOR_ADDED, self.user, user=self.user.username, factor=self.kind)
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
    def uri(self) -> str:
        """The otpauth: URI in the QR code (the Key URI format of authenticator apps)."""
        label = quote(f"{ISSUER}:{self.user.get_username()}")
        return f"otpauth://totp/{label}?" + urlencode({"secret": self.secret_text, "issuer": ISSUER}, quote_via=quote)

    def spend(self, code: str) -> CodeRefused | None:
        """Accept the code of a step (30 s, counted from 1970) that is the clock's own, the one before or the one after,
        where it is newer than every spent step that the clock has reached.

        While the clock is never set back, those are all spent steps, and the rule is RFC 6238's: no code twice, and
        none older than the last. Where it is, the steps that were spent while it was ahead keep nobody out until their
        time comes, and are refused then. The newest SPENT_STEPS are remembered, and what is no newer than the oldest of
        so many is refused: no step is ever accepted twice, however the clock is set.
        """
        # unnoticed mutants (1): 30 s is also django-otp's default.
        totp = TOTP(self.secret, TOTP_STEP_SECONDS)
        # unnoticed mutants (1): None lets django-otp read the clock itself, once for each step that it tries.
        totp.time = time.time()
        reached = [step for step in self.spent_steps if step <= totp.t() + TOTP_TOLERANCE_STEPS]
        if len(self.spent_steps) >= SPENT_STEPS:
            reached.append(min(self.spent_steps))
        # unnoticed mutants (2): they differ in the first minute of 1970.
        if totp.verify(int(code), TOTP_TOLERANCE_STEPS, max(reached, default=-1) + 1):
            self.spent_steps.append(totp.t())
            if len(self.spent_steps) > SPENT_STEPS:
                self.spent_steps.remove(min(self.spent_steps))
            return None
        if totp.verify(int(code), TOTP_TOLERANCE_STEPS):
            return CodeRefused(Reason.USED)
        return CodeRefused(Reason.WRONG)

    def clock_set_back(self) -> timedelta:
        # unnoticed mutants (1): the minutes that are recorded hardly depend on a part of a step.
        now = int(time.time()) // TOTP_STEP_SECONDS
        steps = self.spent_steps[-1] - now - TOTP_TOLERANCE_STEPS if self.spent_steps else 0
        return timedelta(seconds=max(0, steps * TOTP_STEP_SECONDS))


class RecoveryCodes(Factor):
    """Single-use codes, of which only the keyed digests are stored, each with the version of its key: `2:5e0c…`. Those
    of earlier releases have none. Guesses are not slowed down, which would help only those who want to keep the owner
    out: a code has 120 bits."""

    kind = "recovery-code"
    throttled = False
    digests = models.JSONField(default=list, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user"], name="one_set_of_recovery_codes_a_user")]
        verbose_name_plural = "recovery codes"

    @classmethod
    def issue(cls, user: User) -> list[str]:
        """Ten new codes, which replace any earlier ones. Only their digests are stored."""
        codes = [
            "".join(secrets.choice(RECOVERY_ALPHABET) for _ in range(RECOVERY_LENGTH)) for _ in range(RECOVERY_CODES)
        ]
        digests = [cls.digests_of(user, code)[0] for code in codes]
        with transaction.atomic():
            record(Kind.RECOVERY_CODES_CREATED, user, user=user.username)
            # unnoticed mutants (3): no page shows the name.
            cls.objects.update_or_create(user=user, defaults={"name": "Recovery codes", "digests": digests})
        return ["-".join(code[i : i + 6] for i in range(0, RECOVERY_LENGTH, 6)) for code in codes]

    @staticmethod
    def digests_of(user: User, code: str) -> list[str]:
        """As they may be stored, the one to store first."""
        digests = [digest.hex() for digest in settings.VAULT.digests(f"recovery-code:{user.pk}", code)]
        return [*map("{}:{}".format, settings.VAULT.versions, digests), *digests]

    def rests_on_older_keys(self) -> bool:
        """Whether a code would no longer be recognised without the older versions of DIGEST_KEYS."""
        return not all(digest.startswith(f"{settings.VAULT.versions[0]}:") for digest in self.digests)

    @property
    def left(self) -> int:
        return len(self.digests)

    def spend(self, code: str) -> CodeRefused | None:
        for digest in self.digests_of(self.user, code):
            if digest in self.digests:
                self.digests.remove(digest)
                return None
        return CodeRefused(Reason.UNKNOWN_RECOVERY_CODE)
