"""How many keys an account may have, and may create in a day."""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import cached_property
from typing import Any

from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, ngettext_lazy

MESSAGES = {
    "max_active": ngettext_lazy(
        "You have %(used)s of %(max)s API key. To create a new one, first delete the existing key.",
        "You have %(used)s of %(max)s API keys. To create a new one, first delete an existing key.",
        "max",
    ),
    "max_created_per_day": ngettext_lazy(
        "You have created %(used)s of %(max)s API key today. Deleting a key does not restore the quota, which resets "
        "%(resets)s.",
        "You have created %(used)s of %(max)s API keys today. Deleting a key does not restore the quota, which resets "
        "%(resets)s.",
        "max",
    ),
    "account_disabled": gettext_lazy("This account is disabled. Contact your operator."),
    "request_used": gettext_lazy("This request has already created the API key %(existing)s. Select View to see it."),
    "request_used_shown_once": gettext_lazy(
        "This request has already created the API key %(existing)s, which was shown once. If you have not copied it, "
        "delete it and create another one."
    ),
    "request_used_key_deleted": gettext_lazy(
        "This request has already created the API key %(existing)s, which has since been deleted."
    ),
}


class CreationRefused(ValidationError):
    """Why no key was created: `code` is one of MESSAGES, `params` complete the message, `facts` go to the ledger."""

    # unnoticed mutants (1): the messages that use `resets` are given one.
    def __init__(self, code: str, resets: str = "", **facts: Any) -> None:
        self.facts = facts
        super().__init__(MESSAGES[code], code, {**facts, "resets": resets})


def day_of(moment: datetime) -> tuple[datetime, datetime]:
    """Start and end, in UTC, of the calendar day of `moment` in the installation's time zone: 23 to 25 hours."""
    zone = timezone.get_default_timezone()
    today = moment.astimezone(zone).date()

    def midnight(days: int) -> datetime:
        return datetime.combine(today + timedelta(days=days), time.min, zone).astimezone(UTC)

    return midnight(0), midnight(1)


def limit_or_default(limit: int | None, default: int) -> int:
    """An account's own limit where it has one, which may be 0."""
    return default if limit is None else limit


@dataclass(frozen=True)
class Quota:
    """What an account has used of its limits, at one moment."""

    active: int
    created_today: int
    max_active: int
    max_created: int
    now: datetime

    @property
    def created_left(self) -> int:
        return max(0, self.max_created - self.created_today)

    @property
    def resets(self) -> str:
        """When the day ends: `at 00:00 UTC, in 3 hours`."""
        end = day_of(self.now)[1]
        minutes = max(1, round((end - self.now).total_seconds() / 60))
        hours = round(minutes / 60)
        if minutes >= 60:
            wait = ngettext("%(count)s hour", "%(count)s hours", hours) % {"count": hours}
        else:
            wait = ngettext("%(count)s minute", "%(count)s minutes", minutes) % {"count": minutes}
        local = end.astimezone(timezone.get_default_timezone())
        return _("at %(time)s, in %(wait)s") % {"time": f"{local:%H:%M %Z}", "wait": wait}

    @cached_property
    def refusal(self) -> CreationRefused | None:
        """Why no key can be created now; None where one can."""
        if self.active >= self.max_active:
            return CreationRefused("max_active", used=self.active, max=self.max_active)
        if not self.created_left:
            return CreationRefused(
                "max_created_per_day", resets=self.resets, used=self.created_today, max=self.max_created
            )
        return None
