"""Why an authentication failed: a code, whose sentence is made where it is read."""

import math
from datetime import datetime
from enum import StrEnum

from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy


class Reason(StrEnum):
    MALFORMED = "malformed"
    WRONG = "wrong"
    USED = "used"
    UNKNOWN_RECOVERY_CODE = "unknown-recovery-code"
    THROTTLED = "throttled"
    SUSPENDED = "suspended"
    DAMAGED = "damaged"
    ENROLLED_ELSEWHERE = "enrolled-elsewhere"
    WRONG_PASSWORD = "wrong-password"
    PASSWORD_LOCKED = "password-locked"


MESSAGES = {
    Reason.MALFORMED: _("Enter the six-digit code from your authenticator app, or a recovery code."),
    Reason.WRONG: _("The code is incorrect. Enter the code that your authenticator app shows now."),
    Reason.USED: _("This code has already been used. Wait for the next one."),
    Reason.UNKNOWN_RECOVERY_CODE: _("This recovery code is incorrect or has already been used."),
    Reason.THROTTLED: ngettext_lazy(
        "Too many incorrect codes. Try again in %(seconds)s second.",
        "Too many incorrect codes. Try again in %(seconds)s seconds.",
        "seconds",
    ),
    Reason.SUSPENDED: _(
        "Your authenticator is suspended after 100 incorrect codes in a row. Use a recovery code, and replace the "
        "authenticator."
    ),
    Reason.DAMAGED: _(
        "Your authenticator cannot be checked: its stored data was modified outside the console. Use a recovery code, "
        "replace the authenticator, and contact your operator."
    ),
    Reason.ENROLLED_ELSEWHERE: _("An authenticator was enrolled in another window. Log on with that one."),
    Reason.WRONG_PASSWORD: _("The password is incorrect."),
    Reason.PASSWORD_LOCKED: _("Too many incorrect passwords. Try again in 15 minutes."),
}


class AuthenticationRefused(Exception):
    """An authentication that failed. Nothing else has changed."""

    status = 422
    field: str  # of the form, that the message belongs to

    def __init__(self, reason: Reason, **params: object) -> None:
        super().__init__(reason)
        self.reason, self.params = reason, params

    def __str__(self) -> str:
        """What to do next, for a person."""
        return str(MESSAGES[self.reason] % self.params)


class CodeRefused(AuthenticationRefused):
    field = "otp_token"


class PasswordRefused(AuthenticationRefused):
    field = "password"


class PasswordLocked(PasswordRefused):
    """After wrong passwords, none is checked for some minutes."""

    status = 429

    def __init__(self) -> None:
        super().__init__(Reason.PASSWORD_LOCKED)


class CodeThrottled(CodeRefused):
    """The factor accepts no code for some seconds, after wrong ones."""

    status = 429

    def __init__(self, until: datetime) -> None:
        self.retry_after = max(1, math.ceil((until - timezone.now()).total_seconds()))
        super().__init__(Reason.THROTTLED, seconds=self.retry_after)
