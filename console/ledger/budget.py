"""A bound on the rows that somebody other than the owner can cause: a flood leaves a few rows, and how many more there
were."""

from datetime import timedelta
from typing import Any

from django.db import models, transaction
from django.utils import timezone

from console.accounts import User, lock
from console.ledger.kinds import Kind
from console.ledger.models import Entry
from console.ledger.record import record
from console.origin import Actor, ActorKind, Origin, acting

ROWS = 20  # of one kind, in one account
WINDOW = timedelta(hours=1)


class Budget(models.Model):
    """What has been recorded of one kind since `since`, and how many `more` events have not."""

    account = models.ForeignKey(User, models.PROTECT, editable=False)
    kind = models.CharField(max_length=32, editable=False)
    since = models.DateTimeField(editable=False)
    rows = models.PositiveIntegerField(default=0, editable=False)
    more = models.PositiveIntegerField(default=0, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "kind"], name="one_budget_a_kind")]


def record_bounded(kind: Kind, user: User, /, **params: Any) -> Entry | None:
    """`console.ledger.record.record`, for at most ROWS events of a kind in an hour. None where it was only counted."""
    account = lock(user.root)
    budget, _ = Budget.objects.get_or_create(account=account, kind=kind, defaults={"since": timezone.now()})
    if budget.since <= timezone.now() - WINDOW:
        close(budget)
        budget.since, budget.rows = timezone.now(), 0
    entry = None
    if budget.rows < ROWS:
        budget.rows += 1
        entry = record(kind, user, **params)
    else:
        budget.more += 1
    budget.save()
    return entry


def close(budget: Budget) -> None:
    """Record how many more there were, by nobody in particular."""
    if budget.more:
        with acting(Origin(lambda: Actor(ActorKind.SYSTEM))):
            record(Kind.MORE, budget.account, kind=budget.kind, more=budget.more)
        budget.more = 0


def close_ended() -> None:
    """Close the budgets of hours that have ended, whoever comes next."""
    for ended in Budget.objects.filter(since__lte=timezone.now() - WINDOW, more__gt=0):
        with transaction.atomic():
            lock(ended.account)
            budget = Budget.objects.get(pk=ended.pk)  # as it is now
            if budget.since == ended.since:
                close(budget)
                budget.save()
