"""Writing the ledger: what happened to an account, append-only, each row chained to the one before by its hash.

`record` belongs in the transaction of the change that it records: no change without its row, no row without its change.
"""

from typing import Any, Protocol
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from console.accounts import User, lock
from console.ledger.chain import FORMAT, START, row_hash
from console.ledger.kinds import Kind
from console.ledger.models import Entry
from console.ledger.notices import notify
from console.origin import Actor, current_origin


class Key(Protocol):
    """An API key, as the ledger sees one."""

    pk: UUID
    hint: str


def record(
    kind: Kind, user: User, /, *, key: Key | None = None, actor: Actor | None = None, by_factor: str = "", **params: Any
) -> Entry:
    """Write what happened to `user`'s account, and email its owner where the kind calls for it.

    `by_factor` is the kind of factor that was used, where it is not the origin's. `params` are codes, names and
    numbers, never a sentence. Raises TransactionManagementError outside a transaction.
    """
    account, origin = lock(user.root), current_origin()
    actor = actor or origin.actor()
    last = Entry.objects.filter(account=account).only("number", "hash").first()
    entry = Entry(
        account=account,
        number=last.number + 1 if last else 1,
        format=FORMAT,
        at=timezone.now(),
        kind=kind,
        actor=actor.kind,
        who=actor.name,
        address=origin.address,
        factor=by_factor or origin.factor,
        browser=origin.browser,
        key_id=key.pk if key else None,
        key=key.hint if key else "",
        params=params,
    )
    entry.hash = row_hash(bytes(last.hash) if last else START, entry.row())
    entry.save(force_insert=True)
    notify(entry)
    return entry


def record_or_rehearse(kind: Kind, user: User | None, /, **words: Any) -> None:
    """`record` in its own transaction. Without a user, the same work is done for some account and rolled back, so that
    the time it takes does not reveal which user names exist."""
    somebody = User.objects.filter(account=None).order_by("pk").first()
    with transaction.atomic():
        if somebody:
            with transaction.atomic():
                record(kind, user or somebody, **words)
                transaction.set_rollback(user is None)
