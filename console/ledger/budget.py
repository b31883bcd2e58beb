"""A bound on the rows that somebody other than the owner can cause: a flood leaves a few rows, and how many more there
were."""

from datetime import timedelta
from typing import Self

from django.db import models
from django.utils import timezone

from console.accounts import User
from console.ledger.kinds import Kind

# What takes neither a code nor a key nor an operator. Whoever knows a user name, a password or a RAM user's can repeat
# it as fast as the console answers.
BOUNDED = {
    Kind.PASSWORD_REFUSED,
    Kind.PASSWORD_ACCEPTED,
    Kind.CODE_REFUSED,
    Kind.LOCKED_OUT,
    Kind.FACTOR_DAMAGED,
    Kind.CREATION_REFUSED,
    Kind.ACCESS_REFUSED,
}
ROWS = 20  # of one kind, in one account
WINDOW = timedelta(hours=1)


class Budget(models.Model):
    """What has been recorded of one kind and actor since `since`, and how many `more` events have not. Written under
    the lock of the account."""

    account = models.ForeignKey(User, models.PROTECT, editable=False)
    kind = models.CharField(max_length=32, editable=False)
    who = models.CharField(max_length=150, editable=False)  # so that no RAM user uses up what tells about the owner
    since = models.DateTimeField(editable=False)
    rows = models.PositiveIntegerField(default=0, editable=False)
    more = models.PositiveIntegerField(default=0, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "kind", "who"], name="one_budget_a_kind")]

    @classmethod
    def of(cls, account: User, kind: str, who: str) -> Self:
        return cls.objects.get_or_create(account=account, kind=kind, who=who, defaults={"since": timezone.now()})[0]

    @property
    def is_over(self) -> bool:
        """Also where a wrong clock dated its begin in the future."""
        return not timezone.now() - WINDOW < self.since <= timezone.now()

    def begin(self) -> int:
        """A new window. How many events of the one before have not been recorded."""
        omitted, self.since, self.rows, self.more = self.more, timezone.now(), 0, 0
        return omitted

    def spend(self) -> bool:
        """Whether one more event is recorded; where not, it is counted."""
        left = self.rows < ROWS
        if left:
            self.rows += 1
        else:
            self.more += 1
        return left
