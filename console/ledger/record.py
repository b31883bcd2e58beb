"""Writing the ledger: what happened to an account, append-only, each row chained to the one before by its hash.

`record` belongs in the transaction of the change that it records: no change without its row, no row without its change.
"""

import logging
from typing import Any, Protocol, TypeVar
from uuid import UUID

from django.db import connection, connections, transaction
from django.utils import timezone

from console.accounts import User, lock
from console.ledger.budget import BOUNDED, Budget
from console.ledger.chain import FORMAT, START, row_hash
from console.ledger.kinds import OF_OPERATORS, Kind
from console.ledger.models import INSTALLATION, Entry, EntryQuerySet, InstallationEntry, LedgerRow
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
    """Write what happened to `user`'s account, where an operator did it also to the installation's ledger, and email
    its owner where the kind calls for it. Of what others can repeat at will (console.ledger.budget), some rows an hour
    are written, and the rest is counted.

    `by_factor` is the kind of factor that was used, where it is not the origin's. `params` are codes, names and
    numbers, never a sentence. Raises TransactionManagementError outside a transaction.
    """
    account, origin = lock(user.root), current_origin()
    actor = actor or origin.actor()
    if kind in BOUNDED and not is_within_budget(account, kind, actor.name):
        return
    columns = {
        "kind": kind,
        "actor": actor.kind,
        "who": actor.name,
        "address": origin.address,
        "factor": by_factor or origin.factor,
        "browser": origin.browser,
        "key_id": key.pk if key else None,
        "key": key.hint if key else "",
    }
    notify(append(Entry(account=account, params=params, **columns), Entry.objects.filter(account=account), account.pk))
    if kind in OF_OPERATORS and actor.kind in (ActorKind.USER, ActorKind.COMMAND):
        lock_installation()
        entry = InstallationEntry(params=params | {"account": account.username}, **columns)
        append(entry, InstallationEntry.objects.all(), INSTALLATION)


R = TypeVar("R", bound=LedgerRow)


def append(entry: R, ledger: EntryQuerySet, name: object) -> R:
    """As the last row of that ledger, which is locked."""
    last = ledger.only("number", "hash").first()
    entry.number, entry.format, entry.at = last.number + 1 if last else 1, FORMAT, timezone.now()
    entry.hash = row_hash(bytes(last.hash) if last else START, entry.row())
    entry.save(force_insert=True)
    if entry.actor != ActorKind.COMMAND:  # whose output is for whoever typed it
        head = {"account": name, "kind": entry.kind, "number": entry.number, "hash": bytes(entry.hash).hex()}
        transaction.on_commit(lambda: logger.info("recorded", extra={"fields": head}))
    return entry


def lock_installation() -> None:
    """Until the transaction ends: the last lock of several. SQLite has one lock for everything."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [InstallationEntry._meta.db_table])


def begin_installation(using: str, **kwargs: Any) -> None:
    """A receiver of `post_migrate`: every ledger has a row, so that an empty one is one that was emptied."""
    tables = connections[using].introspection.table_names()
    if InstallationEntry._meta.db_table in tables and not InstallationEntry.objects.exists():
        entry = InstallationEntry(kind=Kind.INSTALLATION_BEGUN, actor=ActorKind.COMMAND)
        append(entry, InstallationEntry.objects.all(), INSTALLATION)


def record_or_rehearse(kind: Kind, user: User | None, /, **words: Any) -> None:
    """`record` in its own transaction, as an act of that user. Without one, the same work is done for some account and
    rolled back, so that the time it takes does not reveal which user names exist."""
    somebody = User.objects.filter(account=None).order_by("pk").first()
    with transaction.atomic():
        if somebody:
            with transaction.atomic():
                doer = user or somebody
                record(kind, doer, actor=Actor(ActorKind.USER, doer.username), **words)
                transaction.set_rollback(user is None)


def is_within_budget(account: User, kind: Kind, who: str) -> bool:
    budget = Budget.of(account, kind, who)
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
