"""Adding what the gate's workers have counted to the database, each file once."""

import fcntl
import logging
import os
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from apikeys.metering import HOUR, SUFFIX, read_calls, unpacked
from apikeys.models import FoldedFile

logger = logging.getLogger(__name__)

REMEMBERED = timedelta(days=7)  # a removal that a power failure undid is not folded again

# One row a key and hour, written once for each file. Its last call moves at most once a minute.
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
    file at hand is in the database. A file that cannot be read stays, and is logged each time."""
    folded = 0
    for path in sorted(settings.METERING_DIR.glob(f"*{SUFFIX}")):
        try:
            folded += fold(path)
        except OSError as error:
            logger.error("Calls in %s wait to be counted, it cannot be read: %s", path, error)
    for path in settings.METERING_DIR.glob("*.new"):  # of a worker that was killed before it could count
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > HOUR:
                path.unlink()
    FoldedFile.objects.filter(folded_at__lt=timezone.now() - REMEMBERED).delete()
    return folded


def fold(path: Path) -> bool:
    """Whether it was this call that folded it."""
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False  # another process was faster
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not path.exists():
            return False
        data = os.pread(file, os.fstat(file).st_size, 0)
        try:
            rows = rows_of(data)
        except (ValueError, OverflowError, OSError) as error:
            logger.error("%s is not a file of counted calls (%s); it is set aside as .bad", path, error)
            path.rename(path.with_suffix(".bad"))
            return False
        with transaction.atomic(durable=True):
            _, new = FoldedFile.objects.get_or_create(name=path.stem)
            if new and rows:
                add(rows)
        path.unlink()
        return new
    except BlockingIOError:
        return False  # its worker lives and counts in it
    finally:
        os.close(file)


Row = tuple[str, str, int, int, str | None, str | None]


def rows_of(data: bytes) -> list[Row]:
    """A file's calls as rows of Usage. Raises ValueError, OverflowError or OSError where it holds anything else."""
    hour, calls = read_calls(data)
    begins = as_stored(hour * HOUR)
    return [
        (
            one.key_id.hex(),
            begins,
            one.accepted,
            one.refused,
            as_stored(one.last_at) if one.last_at else None,
            unpacked(one.last_from) or None,
        )
        for one in sorted(calls)  # neighbours in the database are written together, and locked in one order
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
