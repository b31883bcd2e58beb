"""The database and the file of deleted keys (apikeys.keys.tombstones), each completed from the other."""

import logging
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from django.conf import settings
from django.db.models import Q
from django.dispatch import receiver
from django.utils import timezone

from apikeys.keys import tombstones
from apikeys.keys.models import DELETED, ApiKey, KeyDeleted
from apikeys.keys.tombstones import Tombstone, Tombstones
from console.operators import database_restored
from console.origin import Actor, ActorKind, Origin, acting

logger = logging.getLogger(__name__)

BATCH = 400  # rows, or lines
OVERLAP = timedelta(minutes=10)  # of two runs: the clocks of several hosts differ, and a transaction takes its time


@receiver(database_restored)
def delete_again(sender: object = None, **kwargs: Any) -> int:
    """Delete the keys that were deleted before and are active again, as a backup or a statement has made them. How
    many they were. For commands and the console: it writes what `meter` may not."""
    deleted = 0
    with suppress(FileNotFoundError):
        lines = tombstones.read(settings.DELETED_KEYS_FILE)
        while batch := dict(islice(lines, BATCH)):
            for key in ApiKey.objects.active().filter(Q(pk__in=batch) | Q(digest__in=batch.values())):
                with suppress(KeyDeleted), acting(Origin(lambda: Actor(ActorKind.SYSTEM))):
                    key.revoke("deleted", {"reason": "again"})
                    deleted += 1
    return deleted


class Deletions:
    """Notes in the file what the database has more: keys that were deleted on another host, before there was a file, or
    while it could not be written."""

    def __init__(self) -> None:
        self.file = settings.DELETED_KEYS_FILE
        self.begin()

    def begin(self) -> None:
        self.noted = Tombstones(self.file)
        self.since: datetime | None = None  # all

    def complete(self) -> None:
        """At first, and where the file has lost something, all keys are compared; then what was deleted since."""
        self.noted.look()
        problem = self.noted.problem
        if problem and self.since:
            self.noted.close()
            self.begin()
        began = timezone.now()
        try:
            if self.since is None:
                tombstones.append(self.file, [])  # it is there, also while no key is deleted
            added = sum(self.add(batch) for batch in self.deleted())
        except OSError as error:
            logger.error("%s: deleted keys cannot be noted: %s", self.file, error)
            return
        self.since = began
        self.noted.look()  # so that it is known what the file has to have from now on
        if problem and added:
            logger.warning("%s: %s. %s deleted keys were noted from the database.", self.file, problem, added)

    def deleted(self) -> Iterator[list[Tombstone]]:
        rows: Any = ApiKey.objects.filter(DELETED).order_by().values_list("deleted_at", "pk", "digest")
        if self.since:
            yield found(rows.filter(deleted_at__gt=self.since - OVERLAP))
            return
        ordered = rows.order_by("pk")
        batch = found(ordered[:BATCH])
        while batch:
            yield batch
            batch = found(ordered.filter(pk__gt=batch[-1].key_id)[:BATCH])

    def add(self, batch: list[Tombstone]) -> int:
        new = [tombstone for tombstone in batch if tombstone.digest not in self.noted.known]
        if new:
            tombstones.append(self.file, new)
        return len(new)


def found(rows: Any) -> list[Tombstone]:
    return [Tombstone(at, key_id, bytes(digest)) for at, key_id, digest in rows]
