"""Looking up a key by its digests: a fresh answer for each call, nothing is kept.

Every call that arrives after the commit of a deletion sees it, because each look-up begins after its call arrived.
(A cache emptied by notifications was measured to leak; docs/decisions/0009-denial-at-once.md.)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(slots=True)  # made for each call; frozen, it would take four times as long
class Found:
    """What the database says of a key. Its status follows from it and from the time (apikeys.keys.status)."""

    key_id: bytes  # 16 bytes
    account_id: int
    deleted: bool
    disabled: bool  # the key, or its account
    expires_at: float | None  # Unix time


@dataclass(frozen=True, slots=True)
class Unknown:
    """No key has any of the digests."""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The database cannot be asked."""

    reason: str


UNKNOWN = Unknown()
Result = Found | Unknown | Unavailable
Done = Callable[[Result], None]


class Lookup(Protocol):
    async def open(self) -> None:
        """Called once, in the worker's loop, before the first call."""

    def find(self, digests: list[bytes], done: Done) -> None:
        """Look up one key by its digests, one for each digest key. Calls `done` once, at once or later."""

    def close(self) -> None:
        """Close the connection."""
