"""Folding: what the gate's workers have counted is added to the database, each file once, and removed."""

import fcntl
import logging
import os
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple, Protocol

from apikeys.metering.counter import HOUR, NAME_BYTES, NEW_SUFFIX, SUFFIX, Record, read_calls, unpack_address

logger = logging.getLogger(__name__)

BATCH = 8  # files in one transaction: a key in several is written once, and SQLite stays locked for at most 0.2 s
REMEMBERED = timedelta(days=7)  # a file whose removal was undone by a power failure is not added again
MAX_CALLS = 1 << 40  # of one key in one file; more is a damaged file


class KeyHour(NamedTuple):
    """The calls of one key in one hour, as far as they were counted."""

    key_id: bytes
    hour: int  # Unix time of its start
    accepted: int
    refused: int
    last_at: int | None  # Unix time of the last accepted call
    last_from: str | None  # its address


class Store(Protocol):
    """The database that calls are added to. Each method may raise the database's errors."""

    def unknown(self, names: list[str]) -> list[str]:
        """Those of these files that were not added yet."""

    def add(self, names: list[str], sums: list[KeyHour]) -> None:
        """Add the calls of the files of these names, and remember the names, all in one transaction."""

    def forget(self, age: timedelta) -> None:
        """Forget the names of files that were added longer ago than that."""


class CountedFile(NamedTuple):
    """A file that nobody else counts in or folds, for as long as its lock is held."""

    path: Path
    hour: int  # since the epoch
    records: list[Record]


def fold_all(folder: Path, store: Store) -> int:
    """Fold every file whose worker has finished it or is dead; how many were added.

    Where the database raises, nothing of the batch was added, and its files stay. A file that cannot be read stays,
    and is logged each time; a damaged one is renamed to `.bad`.
    """
    paths = sorted(folder.glob(f"*{SUFFIX}"))
    added = sum(fold(paths[start : start + BATCH], store) for start in range(0, len(paths), BATCH))
    for path in folder.glob(f"*{NEW_SUFFIX}"):  # its worker was killed before it could count
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > HOUR:
                path.unlink()
    store.forget(REMEMBERED)
    return added


def fold(paths: Iterable[Path], store: Store) -> int:
    """Add one batch of files; how many were added."""
    with ExitStack() as locks:
        files = [file for path in paths if (file := lock_and_read(path, locks))]
        new = set(store.unknown([file.path.stem for file in files]))
        if new:
            store.add(sorted(new), sum_up(file for file in files if file.path.stem in new))
        for file in files:
            try:
                file.path.unlink()
            except OSError as error:
                logger.error("%s was added to the database but cannot be removed: %s", file.path, error)
    return len(new)


def lock_and_read(path: Path, locks: ExitStack) -> CountedFile | None:
    """The file, locked until `locks` is closed; None where it is in use, removed, unreadable or damaged."""
    try:
        descriptor = os.open(path, os.O_RDWR)
        locks.callback(os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not path.exists():
            return None  # folded by another process between the two lines above
        data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        try:
            hour, records = read_calls(data)
            validate(path, hour, records)
        except ValueError as error:
            logger.error("%s is not a file of counted calls (%s) and is renamed to .bad", path, error)
            path.rename(path.with_suffix(".bad"))
            return None
    except (BlockingIOError, FileNotFoundError):
        return None  # its worker is counting in it, or another process has folded it
    except OSError as error:
        logger.error("The calls in %s are not counted yet: the file cannot be read: %s", path, error)
        return None
    return CountedFile(path, hour, records)


def validate(path: Path, hour: int, records: list[Record]) -> None:
    """Raise ValueError for what the database would refuse: it would stop the whole batch."""
    if len(path.stem) > 2 * NAME_BYTES:
        raise ValueError("its name is too long")
    if any((accepted | refused) >= MAX_CALLS for _, accepted, refused, _, _ in records):
        raise ValueError("a number in it is too large")
    try:
        for moment in (hour * HOUR, *(last_at for _, _, _, last_at, _ in records)):
            datetime.fromtimestamp(moment, UTC)
    except (OverflowError, OSError) as error:
        raise ValueError(f"a time in it is out of range: {error}") from error


def sum_up(files: Iterable[CountedFile]) -> list[KeyHour]:
    """One sum for each key and hour, ordered: neighbours in the database are written together, and every process locks
    rows in the same order."""
    sums: dict[tuple[int, bytes], tuple[int, int, int, bytes]] = {}
    for _, hour, records in files:
        for key_id, accepted, refused, last_at, last_from in records:
            if before := sums.get((hour, key_id)):
                last_at, last_from = max((last_at, last_from), before[2:])
                accepted, refused = accepted + before[0], refused + before[1]
            sums[hour, key_id] = accepted, refused, last_at, last_from
    return [
        KeyHour(key_id, hour * HOUR, accepted, refused, last_at or None, unpack_address(last_from) or None)
        for (hour, key_id), (accepted, refused, last_at, last_from) in sorted(sums.items(), key=itemgetter(0))
    ]
