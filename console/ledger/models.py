"""The ledger: what happened to an account, append-only, each row chained to the one before by its hash.

`record` belongs into the transaction of the change that it records: no change without its row, no row without its
change. A row's hash is SHA-256 over the hash before it (32 zero bytes before the first) and the row as it stands in the
CSV export, so that an export proves itself without the database.
"""

import csv
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import models
from django.utils import timezone

from console.outbox import Mail

if TYPE_CHECKING:
    from console.models import User

START = bytes(32)
COLUMNS = ("number", "at", "kind", "who", "address", "factor", "browser", "key_id", "key", "detail")


class Kind(models.TextChoices):
    LOGGED_ON = "logged on"
    PASSWORD_REFUSED = "password refused"
    CODE_REFUSED = "code refused"
    LOCKED_OUT = "locked out"
    PASSWORD_CHANGED = "password changed"
    EMAIL_CHANGED = "mail address changed"
    FACTOR_ADDED = "factor added"
    FACTOR_REMOVED = "factor removed"
    FACTOR_DAMAGED = "factor damaged"
    RECOVERY_CODES_MADE = "recovery codes made"
    SESSION_ENDED = "session ended"
    KEY_CREATED = "key created"
    KEY_VIEWED = "key viewed"
    KEY_DELETED = "key deleted"
    KEY_REFUSED = "key refused"
    KEY_DAMAGED = "key damaged"
    KEY_LEAKED = "key leaked"
    USER_CREATED = "user created"
    INVITED = "invited"
    LOCKOUT_LIFTED = "lockout lifted"
    LIMITS_CHANGED = "limits changed"
    DISABLED = "disabled"
    ENABLED = "enabled"


# What the owner gets a mail about, and how it begins.
MAILED = {
    Kind.KEY_VIEWED: "The API key {key} was viewed.",
    Kind.KEY_DELETED: "The API key {key} was deleted. Every call that uses it is refused.",
    Kind.KEY_LEAKED: "The API key {key} was reported as leaked, and was deleted. Every call that uses it is refused.",
    Kind.KEY_DAMAGED: "The API key {key} could not be opened: what is stored of it was changed from outside.",
    Kind.FACTOR_ADDED: "A new factor is in force: {detail}.",
    Kind.RECOVERY_CODES_MADE: "New recovery codes are in force, {detail}; the old ones are not any more.",
    Kind.FACTOR_REMOVED: "A factor was removed: {detail}.",
    Kind.FACTOR_DAMAGED: "An authenticator cannot be checked: what is stored of it was changed from outside. {detail}",
    Kind.LOCKED_OUT: "The log-on of {who} is locked for 15 minutes, after too many wrong passwords {detail}.",
    Kind.PASSWORD_CHANGED: "The password of {who} was changed.",
    Kind.EMAIL_CHANGED: "Mail about the account goes to another address from now on: {detail}.",
}


@dataclass
class Origin:
    """Who acts, and from where: set for each request by console.access."""

    who: Callable[[], str] = lambda: "the command line"
    address: str | None = None
    browser: str = ""
    factor: str = ""  # that the action was authenticated with


origin: ContextVar[Origin] = ContextVar("origin")


def here() -> Origin:
    return origin.get(None) or Origin()


@contextmanager
def acting(as_: Origin) -> Iterator[None]:
    token = origin.set(as_)
    try:
        yield
    finally:
        origin.reset(token)


class Entry(models.Model):
    """A row of the ledger. Written once; the application's role needs neither UPDATE nor DELETE on the table."""

    account = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="ledger", editable=False)
    number = models.PositiveBigIntegerField(editable=False)  # from 1, without a gap, for each account
    at = models.DateTimeField(editable=False)
    kind = models.CharField(max_length=32, choices=Kind, editable=False)
    who = models.CharField(max_length=150, editable=False)
    address = models.GenericIPAddressField(null=True, editable=False)
    factor = models.CharField(max_length=64, editable=False)
    browser = models.CharField(max_length=200, editable=False)
    key_id = models.UUIDField(null=True, editable=False)
    key = models.CharField(max_length=16, editable=False)  # its hint
    detail = models.CharField(max_length=200, editable=False)
    hash = models.BinaryField(editable=False)

    class Meta:
        ordering = ["-number"]
        constraints = [models.UniqueConstraint(fields=["account", "number"], name="one_chain_an_account")]
        indexes = [models.Index(fields=["who", "kind", "at"], name="what_somebody_did_lately")]

    def cells(self) -> list[str]:
        """The row as it stands in the export, without its hash."""
        at = f"{self.at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        rest = (self.kind, self.who, self.address, self.factor, self.browser, self.key_id, self.key, self.detail)
        return [str(self.number), at, *(cell("" if value is None else value) for value in rest)]


def cell(value: object) -> str:
    """`value` for a CSV file: what a spreadsheet would run is text behind an apostrophe (OWASP, CSV injection)."""
    text = str(value)
    return f"'{text}" if text[:1] in tuple("=+-@\t\r\n＝＋－＠") and text else text


def hash_after(previous: bytes, cells: list[str]) -> bytes:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return hashlib.sha256(previous + line.getvalue().encode()).digest()


def lock(account: "User") -> "User":
    """Hold the account's row, as it is now, until the transaction ends. Whoever locks more locks this first."""
    return get_user_model().objects.select_for_update(no_key=True).get(pk=account.pk)


def record(kind: Kind, user: "User", *, key: Any = None, factor: str = "", detail: str = "", who: str = "") -> None:
    """Write what happened to `user`'s account, in the transaction under way (TransactionManagementError without)."""
    account, origin = user.root, here()
    lock(account)
    last = Entry.objects.filter(account=account).only("number", "hash").first()
    entry = Entry(
        account=account,
        number=last.number + 1 if last else 1,
        at=timezone.now(),
        kind=kind,
        who=who or origin.who(),
        address=origin.address,
        factor=factor or origin.factor,
        browser=origin.browser,
        key_id=key.pk if key else None,
        key=str(key) if key else "",
        detail=detail[:200],
    )
    entry.hash = hash_after(bytes(last.hash) if last else START, entry.cells())
    entry.save(force_insert=True)
    if kind in MAILED:
        Mail.queue(account, subject=f"{kind.capitalize()}: {account}", body=mail_about(entry))


def mail_about(entry: Entry) -> str:
    what = MAILED[Kind(entry.kind)].format(key=entry.key, detail=entry.detail, who=entry.who)
    lines = [
        what,
        "",
        f"Account: {entry.account}",
        f"Who:     {entry.who}",
        f"When:    {entry.at:%Y-%m-%d %H:%M:%S} UTC",
        f"Address: {entry.address or 'none'}",
        f"Browser: {entry.browser or 'none'}",
        "",
        f"If this was not you, open {settings.CONSOLE_URL}/activity/ and ask your operator.",
    ]
    return "\n".join(lines)


class Broken(Exception):
    """The chain does not hold; the message names the first row that is wrong."""


def verify(rows: Iterable[tuple[list[str], bytes]]) -> tuple[int, bytes]:
    """How many rows there are, and the last one's hash. Raises Broken."""
    previous, count = START, 0
    for cells, found in rows:
        count += 1
        if cells[0] != str(count):
            raise Broken(f"row {count} is missing; row {cells[0]} stands in its place")
        if hash_after(previous, cells) != found:
            raise Broken(f"row {count} was changed, or a row before it was: its hash does not fit")
        previous = found
    return count, previous


def rows_of(account: "User") -> Iterator[tuple[list[str], bytes]]:
    for entry in Entry.objects.filter(account=account).order_by("number").iterator():
        yield entry.cells(), bytes(entry.hash)


def rows_in(file: Iterable[str]) -> Iterator[tuple[list[str], bytes]]:
    """Of an export. Raises Broken where it is none."""
    lines = csv.reader(file)
    if next(lines, None) != [*COLUMNS, "hash"]:
        raise Broken("this is not an export of the ledger; its first line should be " + ",".join([*COLUMNS, "hash"]))
    for number, line in enumerate(lines, 1):
        try:
            *cells, found = line
            row = (cells[: len(COLUMNS)], bytes.fromhex(found))
        except ValueError as error:
            raise Broken(f"row {number} has no hash") from error
        if not cells:
            raise Broken(f"row {number} has no hash")
        yield row


def write(file: Any, entries: Iterable[Entry]) -> None:
    out = csv.writer(file)
    out.writerow([*COLUMNS, "hash"])
    for entry in entries:
        out.writerow([*entry.cells(), bytes(entry.hash).hex()])
