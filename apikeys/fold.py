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

LAST_CALL_EVERY = timedelta(minutes=1)
REMEMBERED = timedelta(days=7)  # a removal that a power failure undid is not folded again
CHUNK = 500  # values in one query

ADD = """
    INSERT INTO apikeys_usage (key_id, hour, accepted, refused) VALUES (%s, %s, %s, %s)
    ON CONFLICT (key_id, hour) DO UPDATE SET
    accepted = apikeys_usage.accepted + EXCLUDED.accepted, refused = apikeys_usage.refused + EXCLUDED.refused
"""
LAST_CALL = """
    UPDATE apikeys_apikey SET last_call_at = %s, last_call_from = %s
    WHERE id = %s AND (last_call_at IS NULL OR last_call_at <= %s)
"""


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
    usage, last_calls = [], []
    for key in known:
        call, db_id = keys[key], to_id(key, connection)
        hour = datetime.fromtimestamp(call.hour * HOUR, UTC)
        usage.append((db_id, to_time(hour), call.accepted, call.refused))
        if call.last_at:
            last = datetime.fromtimestamp(call.last_at, UTC)
            last_calls.append((to_time(last), call.last_from or None, db_id, to_time(last - LAST_CALL_EVERY)))
    with connection.cursor() as cursor:
        cursor.executemany(ADD, usage)
        cursor.executemany(LAST_CALL, last_calls)
