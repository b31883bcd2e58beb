"""Writing the ledger: what happened to an account, append-only, each row chained to the one before by its hash.

`record` belongs in the transaction of the change that it records: no change without its row, no row without its change.
"""

import logging
from typing import Any, Protocol
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from console.accounts import User, lock
from console.ledger.budget import BOUNDED, Budget
from console.ledger.chain import FORMAT, START, row_hash
from console.ledger.kinds import Kind
from console.ledger.models import Entry
from console.ledger.notices import notify
from console.origin import Actor, ActorKind, Origin, acting, current_origin

logger = logging.getLogger(__name__)


class Key(Protocol):
    """An API key, as the ledger sees one."""

    pk: UUID
    hint: str


def record(
    kind: Kind, user: User, /, *, key: Key | None = None, actor: Actor | None = None, by_factor: str = "", **params: Any
) -> None:
    """Write what happened to `user`'s account, and email its owner where the kind calls for it. Of what others can
    repeat at will (console.ledger.budget), some rows an hour are written, and the rest is counted.

    `by_factor` is the kind of factor that was used, where it is not the origin's. `params` are codes, names and
    numbers, never a sentence. Raises TransactionManagementError outside a transaction.
    """
    account, origin = lock(user.root), current_origin()
    actor = actor or origin.actor()
    if kind in BOUNDED and not is_within_budget(account, kind):
        return
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
    if actor.kind is not ActorKind.COMMAND:  # whose output is for whoever typed it
        head = {"account": account.pk, "kind": kind, "number": entry.number, "hash": bytes(entry.hash).hex()}
        transaction.on_commit(lambda: logger.info("recorded", extra={"fields": head}))


def record_or_rehearse(kind: Kind, user: User | None, /, **words: Any) -> None:
    """`record` in its own transaction. Without a user, the same work is done for some account and rolled back, so that
    the time it takes does not reveal which user names exist."""
    somebody = User.objects.filter(account=None).order_by("pk").first()
    with transaction.atomic():
        if somebody:
            with transaction.atomic():
                record(kind, user or somebody, **words)
                transaction.set_rollback(user is None)


def is_within_budget(account: User, kind: Kind) -> bool:
    budget = Budget.of(account, kind)
    if budget.is_over:
        begin_anew(budget, account)
    within = budget.spend()
    budget.save()
    return within


def begin_anew(budget: Budget, account: User) -> None:
    """Say how many events of the window that has ended were left out. Nobody in particular does."""
    if omitted := budget.begin():
        with acting(Origin(lambda: Actor(ActorKind.SYSTEM))):
            record(Kind.MORE, account, kind=budget.kind, more=omitted)


def close_budgets() -> None:
    """Say it of all windows that have ended, whether or not anything follows."""
    for seen in Budget.objects.filter(more__gt=0).select_related("account").defer("account__password"):
        if seen.is_over:
            with transaction.atomic():
                account = lock(seen.account)
                for budget in Budget.objects.filter(pk=seen.pk, since=seen.since):  # unless it has begun anew meanwhile
                    begin_anew(budget, account)
                    budget.save()
