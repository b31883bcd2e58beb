"""Security authentication: one code, one action (DESIGN: the code and the action travel in the same POST)."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django import forms
from django.contrib.auth.backends import ModelBackend
from django.db import transaction

from console.factors.models import RECOVERY_LENGTH, Authenticator, CodeRefused, CodeThrottled, Factor, RecoveryCodes
from console.ledger import models as ledger
from console.ledger.models import Kind
from console.models import User
from console.vault import VaultError

MALFORMED = "Enter the six digits that your authenticator app shows, or a recovery code."
DAMAGED = (
    "Your authenticator cannot be checked: what is stored of it was changed from outside. Use a recovery code, "
    "replace the authenticator, and tell your operator."
)


@contextmanager
def evenly(seconds: float) -> Iterator[None]:
    """Make what is done within take so long, so that its time does not tell what it found."""
    began = time.monotonic()
    try:
        yield
    finally:
        time.sleep(max(0.0, seconds - (time.monotonic() - began)))


class PasswordBackend(ModelBackend):
    def user_can_authenticate(self, user: Any) -> bool:
        return bool(user.may_log_on)


def is_totp(code: str) -> bool:
    """Exactly six ASCII digits: int() alone also takes +123456, 12_3456 and full-width digits."""
    return len(code) == 6 and code.isascii() and code.isdigit()


def authenticate(user: User, code: str) -> Factor:
    """Spend `code` on the factor of `user` that it is shaped for. Raises CodeRefused or CodeThrottled.

    In a transaction of its own that holds the factor's row: the used mark and the count of failures stay whatever
    becomes of the action, and of one code sent many times at once one is accepted.
    """
    kind: type[Factor] = Authenticator
    code = code.replace(" ", "")
    if not is_totp(code):
        kind, code = RecoveryCodes, code.replace("-", "").lower()
        if len(code) != RECOVERY_LENGTH:
            raise CodeRefused(MALFORMED)
    with transaction.atomic(durable=True):
        ledger.lock(user.root)
        factor: Factor | None = kind.objects.select_for_update().filter(user=user, confirmed=True).first()
        try:
            refused = factor.check_code(code) if factor else None
        except VaultError as error:
            ledger.record(Kind.FACTOR_DAMAGED, user, detail=str(error))
            refused = CodeRefused(DAMAGED)
        else:
            # While it is throttled nothing is tried, and nothing is recorded: who has a password only cannot fill the
            # ledger.
            if factor and refused and not isinstance(refused, CodeThrottled):
                ledger.record(Kind.CODE_REFUSED, user, factor=factor.name, detail=str(refused))
    if factor is None:
        raise CodeRefused(MALFORMED)
    if refused:
        raise refused
    ledger.here().factor = factor.name
    return factor


class SecurityForm(forms.Form):
    """The field of every security authentication. `authenticate` is called once, by the view that acts on it."""

    otp_token = forms.CharField(
        label="Security code",
        max_length=64,
        error_messages=dict.fromkeys(("required", "max_length", "null_characters_not_allowed"), MALFORMED),
        widget=forms.TextInput(
            attrs={
                "autocomplete": "one-time-code",
                "autocapitalize": "none",
                "spellcheck": "false",
                "autofocus": True,
            }
        ),
    )
    refused: CodeRefused | None = None

    def authenticate(self, user: User) -> Factor | None:
        """The factor that accepted the code, or None and the reason as the field's error and in `refused`."""
        if self.is_valid():
            try:
                return authenticate(user, self.cleaned_data["otp_token"])
            except CodeRefused as refused:
                self.add_error("otp_token", str(refused))
                self.refused = refused
        return None

    @property
    def status(self) -> int:
        return self.refused.status if self.refused else CodeRefused.status
