"""A row of the ledger, as the database keeps it."""

from collections.abc import Iterator
from datetime import UTC
from typing import Any

from django.db import models

from console.accounts import User
from console.ledger.chain import Row, csv_safe, params_text
from console.ledger.kinds import Kind
from console.permanent import permanent


class EntryQuerySet(models.QuerySet["Entry"]):
    def of_kind(self, kind: Kind) -> "EntryQuerySet":
        """Rows of that kind, whatever their format."""
        return self.filter(kind__in=kind.stored)

    def rows(self) -> Iterator[tuple[Row, bytes]]:
        """As an export has them, the oldest first."""
        for entry in self.order_by("number").iterator():
            yield entry.row(), bytes(entry.hash)


@permanent
class Entry(models.Model):
    """What happened to an account. Written once; the application's role needs neither UPDATE nor DELETE on the table.

    `who`, `key` (its hint) and the rest are kept as they were. `params` are what the kind needs to be told in a
    sentence (console.ledger.sentences); rows of the first format have a sentence in `detail` instead.
    """

    account = models.ForeignKey(User, models.PROTECT, related_name="ledger", editable=False)
    number = models.PositiveBigIntegerField(editable=False)  # from 1, without a gap, for each account
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
        ordering = ["-number"]
        constraints = [models.UniqueConstraint(fields=["account", "number"], name="one_chain_an_account")]
        indexes = [models.Index(fields=["who", "kind", "at"], name="what_somebody_did_lately")]

    def row(self) -> Row:
        """The text of its columns in an export."""
        cells: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("kind", "actor", "who", "address", "factor", "browser", "key_id", "key", "detail")
        }
        at = f"{self.at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        cells |= {"number": self.number, "format": self.format, "at": at, "params": params_text(self.params)}
        return {name: csv_safe(value) for name, value in cells.items()}
