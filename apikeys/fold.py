"""Adding what the gate's workers have counted to the database, each file once."""

import fcntl
import logging
import os
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from apikeys.metering import HOUR, SUFFIX, Calls, read_calls
from apikeys.models import ApiKey, FoldedFile

logger = logging.getLogger(__name__)

REMEMBERED = timedelta(days=7)  # a removal that a power failure undid is not folded again
CHUNK = 500  # values in one query

# One row a key and hour, written once for each file. Its last call moves at most once a minute.
ADD = """
    INSERT INTO apikeys_usage (key_id, hour, accepted, refused, last_call_at, last_call_from)
    VALUES (%s, %s, %s, %s, %s, %s)
    ON CONFLICT (key_id, hour) DO UPDATE SET
    accepted = apikeys_usage.accepted + EXCLUDED.accepted,
    refused = apikeys_usage.refused + EXCLUDED.refused,
    last_call_from = CASE WHEN {later} THEN EXCLUDED.last_call_from ELSE apikeys_usage.last_call_from END,
    last_call_at = CASE WHEN {later} THEN EXCLUDED.last_call_at ELSE apikeys_usage.last_call_at END
"""
A_MINUTE_LATER = {
    "sqlite": "unixepoch(EXCLUDED.last_call_at) - coalesce(unixepoch(apikeys_usage.last_call_at), 0) >= 60",
    "postgresql": "EXCLUDED.last_call_at - coalesce(apikeys_usage.last_call_at, to_timestamp(0)) >= '1 minute'",
}


def fold_all() -> int:
    """Fold every file whose worker has closed it or is dead; how many. Raises DatabaseError, and then nothing of the
    file at hand is in the database."""
    folded = sum(fold(path) for path in sorted(settings.METERING_DIR.glob(f"*{SUFFIX}")))
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
        calls = list(read_calls(os.pread(file, os.fstat(file).st_size, 0)))
        with transaction.atomic(durable=True):
            _, new = FoldedFile.objects.get_or_create(name=path.stem)
            if new:
                add(calls)
        path.unlink()
        return new
    except BlockingIOError:
        return False  # its worker lives and counts in it
    except ValueError:
        logger.error("%s is not a file of counted calls; it is set aside as .bad", path)
        path.rename(path.with_suffix(".bad"))
        return False
    finally:
        os.close(file)


def add(calls: list[Calls]) -> None:
    to_id, to_time = ApiKey._meta.pk.get_db_prep_value, connection.ops.adapt_datetimefield_value
    keys = {uuid.UUID(bytes=call.key_id): call for call in calls}
    known = set()
    ids = list(keys)
    for start in range(0, len(ids), CHUNK):
        known |= set(ApiKey.objects.filter(pk__in=ids[start : start + CHUNK]).values_list("pk", flat=True))
    if unknown := keys.keys() - known:
        logger.error("Calls of %d keys that this database does not know are dropped: %s", len(unknown), unknown)
    rows = []
    for key in known:
        call = keys[key]
        hour = datetime.fromtimestamp(call.hour * HOUR, UTC)
        last = to_time(datetime.fromtimestamp(call.last_at, UTC)) if call.last_at else None
        rows.append((to_id(key, connection), to_time(hour), call.accepted, call.refused, last, call.last_from or None))
    with connection.cursor() as cursor:
        cursor.executemany(ADD.format(later=A_MINUTE_LATER[connection.vendor]), rows)
