"""Adding what the gate's workers have counted to the database, each file once."""

import fcntl
import logging
import os
import time
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from apikeys.metering.counter import HOUR, SUFFIX, Calls, read_calls, unpacked
from apikeys.usage.models import FoldedFile

logger = logging.getLogger(__name__)

NAME_LENGTH = FoldedFile._meta.get_field("name").max_length or 0
TOGETHER = 8  # files: calls of one key in several are one row, and SQLite is locked for two tenths of a second
REMEMBERED = timedelta(days=7)  # a removal that a power failure undid is not folded again

# One row a key and hour. Its last call moves at most once a minute.
ADD = """
    INSERT INTO apikeys_usage (key_id, hour, accepted, refused, last_call_at, last_call_from)
    {calls}
    ON CONFLICT (key_id, hour) DO UPDATE SET
    accepted = apikeys_usage.accepted + EXCLUDED.accepted,
    refused = apikeys_usage.refused + EXCLUDED.refused,
    last_call_from = CASE WHEN {later} THEN EXCLUDED.last_call_from ELSE apikeys_usage.last_call_from END,
    last_call_at = CASE WHEN {later} THEN EXCLUDED.last_call_at ELSE apikeys_usage.last_call_at END
"""
DIALECT = {
    "sqlite": {  # a row at a time
        "calls": "VALUES (%s, %s, %s, %s, %s, %s)",
        "later": "unixepoch(EXCLUDED.last_call_at) - coalesce(unixepoch(apikeys_usage.last_call_at), 0) >= 60",
    },
    "postgresql": {  # all in one statement, an array a column: a fifth of the time
        "calls": "SELECT * FROM unnest("
        "%s::uuid[], %s::timestamptz[], %s::bigint[], %s::bigint[], %s::timestamptz[], %s::inet[])",
        "later": "EXCLUDED.last_call_at - coalesce(apikeys_usage.last_call_at, to_timestamp(0)) >= '1 minute'",
    },
}


def fold_all() -> int:
    """Fold every file whose worker has closed it or is dead; how many. Raises DatabaseError, and then nothing of the
    files at hand is in the database. A file that cannot be read stays, and is logged each time."""
    paths = sorted(settings.METERING_DIR.glob(f"*{SUFFIX}"))
    folded = sum(fold(paths[start : start + TOGETHER]) for start in range(0, len(paths), TOGETHER))
    for path in settings.METERING_DIR.glob("*.new"):  # of a worker that was killed before it could count
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > HOUR:
                path.unlink()
    FoldedFile.objects.filter(folded_at__lt=timezone.now() - REMEMBERED).delete()
    return folded


def fold(paths: list[Path]) -> int:
    """Fold in one transaction what of these files can be; how many."""
    with ExitStack() as locks:
        files = {path: calls for path in paths if (calls := taken(path, locks))}
        with transaction.atomic(durable=True):
            new = [path for path in files if FoldedFile.objects.get_or_create(name=path.stem)[1]]
            if rows := rows_of([files[path] for path in new]):
                add(rows)
        for path in files:
            try:
                path.unlink()
            except OSError as error:
                logger.error("%s is counted and cannot be removed: %s", path, error)
    return len(new)


def taken(path: Path, locks: ExitStack) -> tuple[int, list[Calls]] | None:
    """The hour and the calls of a file, and its lock; None where it is another's, gone or damaged."""
    try:
        file = os.open(path, os.O_RDWR)
        locks.callback(os.close, file)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not path.exists():
            return None  # another process was faster
        data = os.pread(file, os.fstat(file).st_size, 0)
        try:
            hour, calls = read_calls(data)
            # What the database would not take would stop the files that this one is folded with.
            for moment in (hour * HOUR, *(last_at for _, _, _, last_at, _ in calls)):
                as_stored(moment)
            if len(path.stem) > NAME_LENGTH or any((accepted | refused) >> 40 for _, accepted, refused, _, _ in calls):
                raise ValueError("its name or a number in it is too large")
        except (ValueError, OverflowError, OSError) as error:
            logger.error("%s is not a file of counted calls (%s); it is set aside as .bad", path, error)
            path.rename(path.with_suffix(".bad"))
            return None
    except (BlockingIOError, FileNotFoundError):
        return None  # its worker lives and counts in it; or another process was faster
    except OSError as error:
        logger.error("Calls in %s wait to be counted, it cannot be read: %s", path, error)
        return None
    return hour, calls


Row = tuple[str, str, int, int, str | None, str | None]


def rows_of(files: list[tuple[int, list[Calls]]]) -> list[Row]:
    """One row of Usage a key and hour."""
    sums: dict[tuple[int, bytes], tuple[int, int, int, bytes]] = {}
    for hour, calls in files:
        for key_id, accepted, refused, last_at, last_from in calls:
            before = sums.get((hour, key_id))
            if before:
                last_at, last_from = max((last_at, last_from), before[2:])
                accepted, refused = accepted + before[0], refused + before[1]
            sums[hour, key_id] = accepted, refused, last_at, last_from
    return [
        (
            key_id.hex(),
            as_stored(hour * HOUR),
            accepted,
            refused,
            as_stored(last_at) if last_at else None,
            unpacked(last_from) or None,
        )
        # in order: neighbours in the database are written together, and locked in one order
        for (hour, key_id), (accepted, refused, last_at, last_from) in sorted(sums.items(), key=itemgetter(0))
    ]


def add(rows: list[Row]) -> None:
    add_rows = ADD.format(**DIALECT[connection.vendor])
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(add_rows, [array(column) for column in zip(*rows, strict=True)])
        else:
            cursor.executemany(add_rows, rows)


@lru_cache(64)
def as_stored(seconds: int) -> str:
    """A Unix time as the database takes it."""
    return str(connection.ops.adapt_datetimefield_value(datetime.fromtimestamp(seconds, UTC)))


def array(values: tuple[Any, ...]) -> str:
    """Numbers, times and addresses as an array of PostgreSQL."""
    return "{" + ",".join("NULL" if value is None else f'"{value}"' for value in values) + "}"
