"""Rows in bulk, as years of use leave them: what the pages show is the same as if each had been made by hand."""

import secrets
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice

from django.utils import timezone

from apikeys.keys.format import hint, new_secret
from apikeys.models import ApiKey, Usage
from console.ledger.chain import FORMAT, START, row_hash
from console.ledger.kinds import Kind
from console.ledger.models import Entry
from console.models import User
from console.sessions.store import Session

BATCH = 5000
BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
KINDS = (Kind.KEY_CREATED, Kind.KEY_VIEWED, Kind.KEY_DELETED, Kind.LOGGED_ON)


def users(count: int, *, account: User | None = None) -> list[User]:
    """Root accounts, or RAM users of that one."""
    some = uuid.uuid4().hex[:8]
    new = [User(username=f"{some}-{n}", account=account) for n in range(count)]
    return User.objects.bulk_create(new, batch_size=BATCH)


def keys(account: User, count: int, *, deleted: bool = False, before: datetime | None = None) -> list[ApiKey]:
    """Created ten a day until `before`, or yesterday."""
    last = before or timezone.now() - timedelta(days=1)
    return ApiKey.objects.bulk_create([new_key(account, last, n, deleted) for n in range(count)], batch_size=BATCH)


def new_key(account: User, last: datetime, number: int, deleted: bool) -> ApiKey:
    at = last - number * timedelta(hours=2.4)
    return ApiKey(
        account=account,
        hint=hint(new_secret()),
        digest=secrets.token_bytes(32),
        sealed_secret=None if deleted else b"sealed",
        request_id=uuid.uuid4(),
        created_at=at,
        deleted_at=at if deleted else None,
    )


def usage(of: Sequence[ApiKey], hours: int) -> None:
    """Each of them called in each of the last hours."""
    this_hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    rows = (
        Usage(
            key=key,
            hour=this_hour - timedelta(hours=n),
            accepted=n + 1,
            refused=n % 3,
            last_call_at=this_hour - timedelta(hours=n),
            last_call_from=f"192.0.2.{n % 256}",
        )
        for n in range(hours)
        for key in of
    )
    while batch := [*islice(rows, BATCH)]:
        Usage.objects.bulk_create(batch)


def ledger(account: User, count: int, of: Sequence[ApiKey] = ()) -> None:
    """That many more rows, about those keys in turn: a chain that verifies."""
    rows = entries(account, of)
    while batch := [*islice(rows, min(BATCH, count))]:
        Entry.objects.bulk_create(batch)
        count -= len(batch)


def entries(account: User, of: Sequence[ApiKey]) -> Iterator[Entry]:
    last = Entry.objects.filter(account=account).first()
    number, previous = (last.number, bytes(last.hash)) if last else (0, START)
    while True:
        number += 1
        kind = KINDS[number % len(KINDS)]
        key = of[number % len(of)] if of and kind is not Kind.LOGGED_ON else None
        entry = Entry(
            account=account,
            number=number,
            format=FORMAT,
            at=timezone.now(),
            kind=kind,
            actor="user",
            who=account.username,
            address="192.0.2.7",
            factor="totp",
            browser=BROWSER,
            key_id=key.pk if key else None,
            key=key.hint if key else "",
        )
        previous = entry.hash = row_hash(previous, entry.row())
        yield entry


def sessions(user: User, count: int) -> None:
    now = timezone.now()
    Session.objects.bulk_create(
        Session(
            session_key=secrets.token_hex(16),
            expire_date=now + timedelta(hours=1),
            user=user,
            began_at=now,
            seen_at=now - timedelta(seconds=n),
            address="192.0.2.7",
            browser=BROWSER,
        )
        for n in range(count)
    )
