"""The look-up in SQLite, within the loop: it takes some microseconds, less than handing it to a thread would."""

import os
import sqlite3
import time
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from apikeys.gate.lookup import UNKNOWN, Done, Found, Result, Unavailable
from console.vault import MAX_DIGEST_KEYS

SAME_FILE_SECONDS = 0.05
BUSY_SECONDS = 1.0
# The cache (64 MB) and the memory map (1 GB) keep look-ups among ten million keys at 13 µs (docs/performance.md).
SETTINGS = ("PRAGMA query_only = 1", f"PRAGMA mmap_size = {1 << 30}", f"PRAGMA cache_size = -{64 << 10}")

# Without INDEXED BY, SQLite would take the index that keeps digests unique, and read the row as well.
QUERY = (
    "SELECT id, account_id, deleted_at IS NOT NULL, disabled_at IS NOT NULL OR account_disabled, expires_at"
    " FROM apikeys_apikey INDEXED BY keys_for_the_gate WHERE digest IN (%s)"
)


@lru_cache(4096)
def unix_time(text: str) -> float:
    """A time as Django stores it in SQLite, which is in UTC. Raises ValueError."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


class SqliteLookup:
    inode: int  # of the open file
    checked_at: float  # when that file was last seen at the path (time.monotonic)

    def __init__(self, path: Path) -> None:
        self.path = path
        # unnoticed mutants (1): DIGEST_KEYS never has one key more.
        self.queries = [QUERY % ",".join("?" * count) for count in range(MAX_DIGEST_KEYS + 1)]
        self.connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Nothing to do: the first call connects."""

    def cursor(self) -> sqlite3.Cursor:
        """For the file that is at the path now: one that was moved away or replaced would go on answering through an
        open connection."""
        now = time.monotonic()
        # unnoticed mutants (2): how often the file is checked.
        if self.connection is None or now - self.checked_at > SAME_FILE_SECONDS:
            inode = os.stat(self.path).st_ino
            if self.connection is None or inode != self.inode:
                self.close()
                # It creates no file and writes to none but the write-ahead log's memory, which its readers share too.
                uri = f"{self.path.as_uri()}?mode=ro"
                # unnoticed mutants (4): Debian's SQLite takes a URI in any case (SQLITE_USE_URI); how long a lock is
                # waited for.
                self.connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS)
                for setting in SETTINGS:
                    self.connection.execute(setting)
                self.open_cursor = self.connection.cursor()
            self.inode, self.checked_at = inode, now
        return self.open_cursor

    def find(self, digests: list[bytes], done: Done) -> None:
        result: Result = UNKNOWN
        try:
            # All digests in one query: a key that is being re-digested has one or the other.
            row = self.cursor().execute(self.queries[len(digests)], digests).fetchone()
            if row:
                key_id, account_id, deleted, disabled, expires = row
                expires_at = None if expires is None else unix_time(expires)
                result = Found(bytes.fromhex(key_id), account_id, deleted != 0, disabled != 0, expires_at)
        except (OSError, sqlite3.Error, ValueError) as error:
            self.close()
            result = Unavailable(str(error))
        done(result)

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None
