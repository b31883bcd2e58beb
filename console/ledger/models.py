"""A row of the ledger, as the database keeps it."""

from collections.abc import Iterator
from datetime import UTC
from typing import Any, NamedTuple

from django.db import models
from django.db.models import F, OuterRef, Subquery
from django.utils.translation import gettext_lazy as _

from console.accounts import User
from console.ledger.chain import Row, csv_safe, params_text
from console.ledger.kinds import Kind
from console.permanent import permanent

BATCH = 2000  # rows
INSTALLATION = "installation"  # in place of an account's id


class EntryQuerySet(models.QuerySet[Any]):
    def of_kind(self, kind: Kind) -> "EntryQuerySet":
        """Rows of that kind, whatever their format."""
        # Ordered by an expression: by the column, SQLite reads the whole ledger backwards until it has met enough.
        return self.filter(kind__in=kind.stored).order_by(-(F("number") + 0))

    def search(self, text: str) -> "EntryQuerySet":
        """Rows about keys whose hint has `text` in it; three dots stand for the ellipsis of a hint."""
        return self.filter(key__icontains=text.replace("...", "…"))

    def rows(self) -> Iterator[tuple[Row, bytes]]:
        """Those of one account as an export has them, the oldest first. Each batch is a query of its own: nothing is
        held open in the database while somebody takes them slowly."""
        last = -1  # also what was put before the first row from outside
        while batch := self.filter(number__gt=last).order_by("number")[:BATCH]:
            for entry in batch:
                yield entry.row(), bytes(entry.hash)
                last = entry.number


class LedgerRow(models.Model):
    """Written once; the application's role needs neither UPDATE nor DELETE on the tables.

    `who`, `key` (its hint) and the rest are kept as they were. `params` are what the kind needs to be told in a
    sentence (console.ledger.sentences); rows of the first format have a sentence in `detail` instead.
    """

    number = models.PositiveBigIntegerField(editable=False)  # from 1, without a gap
    format = models.PositiveSmallIntegerField(default=1, editable=False)
    at = models.DateTimeField(editable=False)
    kind = models.CharField(max_length=32, editable=False)
    actor = models.CharField(max_length=16, editable=False, default="")
    who = models.CharField(max_length=150, editable=False)
    address = models.GenericIPAddressField(null=True, editable=False)
    factor = models.CharField(max_length=64, editable=False)
    browser = models.CharField(max_length=200, editable=False)
    key_id = models.UUIDField(null=True, editable=False)
    key = models.CharField(max_length=16, editable=False)
    params = models.JSONField(default=dict, editable=False)
    detail = models.CharField(max_length=200, editable=False)
    hash = models.BinaryField(editable=False)

    objects = EntryQuerySet.as_manager()

    class Meta:
        abstract = True
        ordering = ["-number"]

    def row(self) -> Row:
        """The text of its columns in an export."""
        cells: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("kind", "actor", "who", "address", "factor", "browser", "key_id", "key", "detail")
        }
        at = f"{self.at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        cells |= {"number": self.number, "format": self.format, "at": at, "params": params_text(self.params)}
        return {name: csv_safe(value) for name, value in cells.items()}


@permanent
class Entry(LedgerRow):
    """What happened to an account."""

    account = models.ForeignKey(User, models.PROTECT, related_name="ledger", editable=False)

    class Meta(LedgerRow.Meta):
        abstract = False
        constraints = [models.UniqueConstraint(fields=["account", "number"], name="one_chain_an_account")]
        indexes = [
            models.Index(fields=["who", "kind", "at"], name="what_somebody_did_lately"),
            # What the Activity page filters by, in its order.
            models.Index(fields=["account", "kind", "number"], name="ledger_by_kind"),
            models.Index(fields=["account", "key_id", "number"], name="ledger_by_key"),
        ]


@permanent
class InstallationEntry(LedgerRow):
    """What operators and management commands did, to whichever account. A row has the account's name in `params`."""

    class Meta(LedgerRow.Meta):
        abstract = False
        verbose_name = _("entry of the installation’s ledger")
        verbose_name_plural = _("entries of the installation’s ledger")
        constraints = [models.UniqueConstraint(fields=["number"], name="one_chain_of_the_installation")]


class Ledger(NamedTuple):
    key: str  # in a file of signed heads
    name: str
    rows: EntryQuerySet


def ledgers() -> Iterator[Ledger]:
    """All of them: each account's, and the installation's."""
    for account in User.objects.filter(account=None).order_by("username"):
        yield Ledger(str(account.pk), f"account {account}", Entry.objects.filter(account=account))
    yield Ledger(INSTALLATION, INSTALLATION, InstallationEntry.objects.all())


def last_rows() -> Iterator[tuple[str, tuple[int, str]]]:
    """For each account with a ledger its id, and the number and hash of its last row; that of the installation too."""
    last = Entry.objects.filter(account=OuterRef("pk")).order_by("-number")
    accounts = User.objects.filter(account=None).annotate(
        number=Subquery(last.values("number")[:1]), hash=Subquery(last.values("hash")[:1])
    )
    for pk, number, found in accounts.exclude(number=None).values_list("pk", "number", "hash").iterator():
        yield str(pk), (number, bytes(found).hex())
    for last_row in InstallationEntry.objects.all()[:1]:
        yield INSTALLATION, (last_row.number, bytes(last_row.hash).hex())
