"""The status of a key: deleted before disabled, disabled before expired, expired from the instant on."""

import pytest

from apikeys.keys.status import Status, status_of

pytestmark = pytest.mark.once
NOW = 1_000_000.0


@pytest.mark.parametrize(
    ("deleted", "disabled", "expires_at", "status"),
    [
        (False, False, None, Status.ACTIVE),
        (False, False, NOW + 0.1, Status.ACTIVE),
        (False, False, NOW, Status.EXPIRED),
        (False, False, NOW - 0.1, Status.EXPIRED),
        (False, True, None, Status.DISABLED),
        (False, True, NOW - 1, Status.DISABLED),
        (True, False, None, Status.DELETED),
        (True, True, NOW - 1, Status.DELETED),
    ],
)
def test_it_is_derived_from_the_row(deleted: bool, disabled: bool, expires_at: float | None, status: Status) -> None:
    assert status_of(deleted=deleted, disabled=disabled, expires_at=expires_at, now=NOW) is status
