"""Security authentication: one code, one action. The code and the action travel in the same POST."""

import math

from django.db import transaction

from console.accounts import User, lock
from console.factors.models import GUESSED_AFTER, RECOVERY_LENGTH, SUSPENDED_AFTER, Authenticator, Factor, RecoveryCodes
from console.factors.refusals import CodeRefused, Reason
from console.ledger.kinds import Kind
from console.ledger.record import record
from console.origin import Actor, ActorKind, Origin, acting, current_origin
from console.vault import VaultError


def is_totp(code: str) -> bool:
    """Exactly six ASCII digits: int() alone also takes +123456, 12_3456 and full-width digits."""
    return len(code) == 6 and code.isascii() and code.isdigit()


def authenticate(user: User, code: str, *, verified: bool = True) -> Factor:
    """Spend `code` on the factor of `user` that it has the form of. Raises CodeRefused or CodeThrottled.

    `verified` says whether the session has passed a factor before; failures of other sessions are counted apart.

    Runs in a transaction of its own that holds the factor's row: the used mark and the count of failures stay whatever
    becomes of the action, and of one code sent many times at once, one is accepted.
    """
    kind: type[Factor] = Authenticator
    code = code.replace(" ", "")
    if not is_totp(code):
        kind, code = RecoveryCodes, code.replace("-", "").lower()
        if len(code) != RECOVERY_LENGTH:
            raise CodeRefused(Reason.MALFORMED)
    with transaction.atomic(durable=True):
        lock(user.root)
        factor: Factor | None = kind.objects.select_for_update().filter(user=user, confirmed=True).first()
        if factor is None:
            raise CodeRefused(Reason.MALFORMED)
        set_back = factor.clock_set_back()
        try:
            refused = factor.check_code(code, verified=verified)
        except VaultError:
            record(Kind.FACTOR_DAMAGED, user, user=user.username, factor=factor.kind)
            refused = CodeRefused(Reason.DAMAGED)
        else:
            # A code that is not tried is not recorded: somebody with only a password cannot fill the ledger.
            if refused and refused.reason not in (Reason.THROTTLED, Reason.SUSPENDED):
                record(Kind.CODE_REFUSED, user, by_factor=factor.kind, reason=refused.reason)
                if factor.failures(verified) == GUESSED_AFTER:
                    record(Kind.CODES_GUESSED, user, user=user.username, count=GUESSED_AFTER)
                if factor.throttled and factor.failures(verified) == SUSPENDED_AFTER:
                    record(Kind.FACTOR_SUSPENDED, user, user=user.username, factor=factor.kind)
            if set_back and not refused:
                minutes = math.ceil(set_back.total_seconds() / 60)
                with acting(Origin(lambda: Actor(ActorKind.SYSTEM))):
                    record(Kind.CLOCK_SET_BACK, user, minutes=minutes)
    if refused:
        raise refused
    current_origin().factor = factor.kind
    return factor
