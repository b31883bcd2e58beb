"""Rate limits: how often something may be tried for a user name, from a network, or with a browser.

A limit is checked before anything else is written, and a refusal writes nothing. Rows are identified by keyed digests:
what somebody typed as a user name may be a password, so it is not stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

from django.db import models, transaction
from django.db.models import F, Q
from django.utils import timezone
from django.utils.crypto import salted_hmac

LONGEST = timedelta(minutes=15)  # of all periods


def digest(*parts: str) -> str:
    return salted_hmac("console.rate_limits", "\0".join(parts), algorithm="sha256").hexdigest()


@dataclass(frozen=True)
class RateLimit:
    """At most so many in a period, which begins with the first one."""

    kind: str
    most: int
    period: timedelta = LONGEST
    subject: str = ""  # a user name
    caller: str = ""  # a network, a browser or a session

    @property
    def key(self) -> str:
        return digest(self.kind, self.subject, self.caller)


class Tally(models.Model):
    """How many there have been since `since`."""

    key = models.CharField(max_length=64, primary_key=True, editable=False)
    subject = models.CharField(max_length=64, editable=False, db_index=True)  # a digest
    count = models.PositiveIntegerField(default=0, editable=False)
    since = models.DateTimeField(default=timezone.now, editable=False, db_index=True)

    @classmethod
    def of(cls, limits: Sequence[RateLimit]) -> "models.QuerySet[Self]":
        return cls.objects.filter(key__in=[limit.key for limit in limits])

    def is_over(self, limit: RateLimit) -> bool:
        """Whether the period has ended, or a wrong clock dated it in the future."""
        return abs(timezone.now() - self.since) >= limit.period


class Exhausted(Exception):
    """A rate limit allows no more at the moment."""


def exhausted(limits: Sequence[RateLimit]) -> list[RateLimit]:
    """Those of the limits that allow no more at the moment."""
    tallies = {tally.key: tally for tally in Tally.of(limits)}
    found = [(limit, tallies[limit.key]) for limit in limits if limit.key in tallies]
    return [limit for limit, tally in found if tally.count >= limit.most and not tally.is_over(limit)]


def take(limits: Sequence[RateLimit]) -> list[RateLimit]:
    """Count one in each limit and return the limits that allow no more after it. Call it before the work that is
    limited, so that concurrent requests get no further than sequential ones. Raises Exhausted, with nothing counted, if
    a limit allows no more already."""
    if exhausted(limits):
        raise Exhausted
    by_key = {limit.key: limit for limit in limits}
    with transaction.atomic():
        new = [Tally(key=key, subject=digest(by_key[key].subject)) for key in sorted(by_key)]
        Tally.objects.bulk_create(new, ignore_conflicts=True)
        tallies = list(Tally.of(limits).order_by("key").select_for_update())  # always in this order: no deadlocks
        for tally in tallies:
            if tally.is_over(by_key[tally.key]):
                tally.count, tally.since = 0, timezone.now()
            tally.count += 1
            if tally.count > by_key[tally.key].most:
                raise Exhausted
        Tally.objects.bulk_update(tallies, ["count", "since"])
    return [by_key[tally.key] for tally in tallies if tally.count == by_key[tally.key].most]


def give_back(limits: Sequence[RateLimit]) -> None:
    """Uncount one in each limit: it was no failure."""
    with transaction.atomic():
        list(Tally.of(limits).order_by("key").select_for_update())
        Tally.of(limits).filter(count__gt=0).update(count=F("count") - 1)


def reset(limit: RateLimit) -> None:
    """Begin to count anew."""
    Tally.of([limit]).delete()


def forget(subject: str) -> int:
    """Delete all tallies of a user name and return how many there were."""
    return Tally.objects.filter(subject=digest(subject)).delete()[0]


def clean_up() -> None:
    """Delete the tallies whose period has ended."""
    now = timezone.now()
    Tally.objects.filter(Q(since__lt=now - LONGEST) | Q(since__gt=now + LONGEST)).delete()
