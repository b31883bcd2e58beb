"""The status of a key or of a call, and the one rule that derives it, for the console, the gate, its metrics, nginx and
the documentation. Free of Django, because the gate uses it on every call."""

from enum import StrEnum


class Status(StrEnum):
    # Of a key.
    ACTIVE = "active"
    DELETED = "deleted"
    DISABLED = "disabled"
    EXPIRED = "expired"
    # Of a call without a key of this installation.
    MISSING = "missing"
    MALFORMED = "malformed"
    UNKNOWN = "unknown"


KEY_STATUSES = (Status.ACTIVE, Status.DISABLED, Status.EXPIRED, Status.DELETED)
REFUSALS = (  # in the order in which the gate checks
    Status.MISSING,
    Status.MALFORMED,
    Status.UNKNOWN,
    Status.DELETED,
    Status.DISABLED,
    Status.EXPIRED,
)


def status_of(*, deleted: bool, disabled: bool, expires_at: float | None, now: float) -> Status:
    """The status of a key at `now`. Times are Unix times in seconds; `disabled` is the key's own or its account's."""
    if deleted:
        return Status.DELETED
    if disabled:
        return Status.DISABLED
    if expires_at is not None and expires_at <= now:
        return Status.EXPIRED
    return Status.ACTIVE
