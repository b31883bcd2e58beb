"""Sums of counted calls, and their chart."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import OuterRef, Q, Subquery, Sum
from django.db.models.lookups import IsNull
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from apikeys.keys.limits import day_of
from apikeys.keys.models import ApiKey, ApiKeyQuerySet
from apikeys.usage.models import Usage

PERIODS = {1: _("Today"), 7: _("7 days"), 30: _("30 days"), 90: _("90 days")}
HOURS_AT_ONCE = 25_000
WIDTH, HEIGHT, LEFT, TOP, BOTTOM, LABEL = 720, 240, 32, 32, 28, 60  # of the chart, in its own units


@dataclass
class Bar:
    """The calls of one hour or day."""

    label: str
    accepted: int = 0
    refused: int = 0
    x: float = 0
    width: float = 0
    accepted_y: float = 0
    accepted_height: float = 0
    refused_y: float = 0
    refused_height: float = 0

    @property
    def mark(self) -> str:
        """The label, short: 09:00 of an hour, 11-23 of a day."""
        return self.label[:5] if " " in self.label else self.label[5:]


@dataclass
class Chart:
    bars: list[Bar]
    top: int  # what the upper line stands for
    accepted: int
    refused: int
    unit: str

    width, height, left, base, upper = WIDTH, HEIGHT, LEFT, HEIGHT - BOTTOM, TOP

    @property
    def marks(self) -> list[Bar]:
        """The bars whose label there is room for."""
        return [bar for bar in self.bars[:: max(1, -(-len(self.bars) // 8))] if bar.x < WIDTH - LABEL]


def period(days: int, now: datetime) -> tuple[datetime, list[str], bool]:
    """Where the last `days` days begin in the installation's time zone, the labels of their bars, and whether those
    are hours. Calls are counted by the hour of UTC: one that midnight divides goes with the day in which it began."""
    zone = timezone.get_default_timezone()
    start, end = day_of(now)
    for _day in range(days - 1):
        start = day_of(start - timedelta(microseconds=1))[0]
    first = start.astimezone(zone).date()
    if days > 1:
        return start, [str(first + timedelta(days=n)) for n in range(days)], False
    start = start.replace(minute=0) + timedelta(hours=1 if start.minute else 0)
    hours = -(-(end - start) // timedelta(hours=1))
    return start, [hour_label((start + timedelta(hours=n)).astimezone(zone)) for n in range(hours)], True


def hour_label(local: datetime) -> str:
    return f"{local:%H:%M %z}"


def chart(keys: ApiKeyQuerySet, days: int) -> Chart:
    """The calls of those keys: one bar per hour for today, one per day for longer periods."""
    start, labels, hourly = period(days, timezone.now())
    zone = timezone.get_default_timezone()
    bars = {label: Bar(label) for label in labels}
    rows = Usage.objects.filter(key__in=keys, hour__gte=start).values_list("hour")
    for hour, accepted, refused in rows.annotate(Sum("accepted"), Sum("refused")):
        local = hour.astimezone(zone)
        label = hour_label(local) if hourly else str(local.date())
        bar = bars.setdefault(label, Bar(label))  # one beyond the period only where the clock was set back
        bar.accepted += accepted
        bar.refused += refused
    top = max([bar.accepted + bar.refused for bar in bars.values()] + [1])
    step, scale = (WIDTH - LEFT) / len(bars), (HEIGHT - TOP - BOTTOM) / top
    for n, bar in enumerate(bars.values()):
        bar.x, bar.width = round(LEFT + n * step + step * 0.1, 1), round(step * 0.8, 1)
        bar.accepted_height, bar.refused_height = round(bar.accepted * scale, 1), round(bar.refused * scale, 1)
        bar.accepted_y = round(HEIGHT - BOTTOM - bar.accepted_height, 1)
        bar.refused_y = round(bar.accepted_y - bar.refused_height, 1)
    accepted, refused = (sum(getattr(bar, name) for bar in bars.values()) for name in ("accepted", "refused"))
    return Chart([*bars.values()], top, accepted, refused, "hour" if hourly else "day")


def called_since(start: datetime) -> Q:
    """Matches keys called since then. Each is looked up in the index: with EXISTS or IN, PostgreSQL may read the hours
    of every account."""
    hours = Usage.objects.filter(key=OuterRef("pk"), hour__gte=start).values("hour")
    return Q(IsNull(Subquery(hours[:1]), False))


def called_or_active(keys: ApiKeyQuerySet, days: int) -> ApiKeyQuerySet:
    """The keys that are active or were called in the period."""
    return keys.filter(Q(deleted_at=None) | called_since(period(days, timezone.now())[0]))


def by_key(keys: Iterable[ApiKey], days: int) -> list[dict[str, Any]]:
    """A row for each of them, in their order."""
    rows = Usage.objects.filter(key__in=[key.pk for key in keys], hour__gte=period(days, timezone.now())[0])
    sums: dict[object, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for key_id, accepted, refused in rows.values_list("key").annotate(Sum("accepted"), Sum("refused")):
        sums[key_id] = accepted, refused
    return [{"key": key, "accepted": sums[key.pk][0], "refused": sums[key.pk][1]} for key in keys]


def hours(keys: ApiKeyQuerySet, days: int) -> Iterator[tuple[ApiKey, datetime, int, int]]:
    """A key, an hour of the period, and the calls accepted and refused in it: the newest key first, and of each the
    earliest hour. No more than HOURS_AT_ONCE are in memory."""
    start = period(days, timezone.now())[0]
    called = [*keys.filter(called_since(start)).only("hint", "deleted_at")]
    step = HOURS_AT_ONCE // (24 * days)
    for first in range(0, len(called), step):
        some = {key.pk: key for key in called[first : first + step]}
        rows = Usage.objects.filter(key__in=[*some], hour__gte=start).order_by("-key__created_at", "hour")
        for key_id, hour, accepted, refused in rows.values_list("key", "hour", "accepted", "refused"):
            yield some[key_id], hour, accepted, refused
