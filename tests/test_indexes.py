"""What the pages ask for has an index, on either database."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from apikeys.keys.deletions import Deletions
from apikeys.models import ApiKey
from apikeys.usage.sums import called_or_active
from console.ledger.kinds import Kind
from console.ledger.models import Entry
from tests.support import filling
from tests.support.world import Enrolled

pytestmark = [pytest.mark.django_db, pytest.mark.no_mutants]


def plan(ask: Callable[[], object]) -> str:
    """The database's plan for the last query of `ask`."""
    asked: list[tuple[str, Any]] = []

    def keep(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        asked.append((sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(keep):
        ask()
    explain = "EXPLAIN" if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN"
    sql, params = asked[-1]
    with connection.cursor() as cursor:
        cursor.execute(f"{explain} {sql}", params)
        return "\n".join(str(row[-1]) for row in cursor.fetchall())


@pytest.fixture
def keys(owner: Enrolled, other: Enrolled) -> list[ApiKey]:
    """Of an account whose ledger is one of many."""
    keys = filling.keys(owner, 500, deleted=True)
    filling.keys(owner, 3)
    filling.ledger(owner, 4000, keys)
    filling.ledger(other, 4000)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    return keys


def test_the_ledgers_filters(owner: Enrolled, keys: list[ApiKey]) -> None:
    ledger = Entry.objects.filter(account=owner)
    for entries, index in (
        (ledger.of_kind(Kind.FACTOR_ADDED), "ledger_by_kind"),
        (ledger.filter(key_id=keys[7].pk), "ledger_by_key"),
    ):
        assert index in plan(entries.count)
        assert index in plan(lambda entries=entries: list(entries.values("number")[:50]))  # type: ignore[misc]


def test_the_lists_of_keys(owner: Enrolled, keys: list[ApiKey]) -> None:
    own = ApiKey.objects.of(owner)
    assert "active_keys_of_account" in plan(own.active().count)
    assert "active_keys_of_account" in plan(lambda: list(own.active()[:50]))
    assert "active_keys_of_account" in plan(lambda: own.quota(owner))
    assert "active_keys_of_account" in plan(lambda: list(own.last_deleted(20)))


def test_what_was_deleted_lately(keys: list[ApiKey], tmp_path: Path, settings: Any) -> None:
    settings.DELETED_KEYS_FILE = tmp_path / "deleted-keys"
    deletions = Deletions()
    deletions.since = timezone.now()
    assert "keys_by_deletion" in plan(lambda: list(deletions.deleted()))


def test_the_usage_page_looks_at_the_accounts_own_hours(owner: Enrolled, keys: list[ApiKey]) -> None:
    filling.usage(keys, 20)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    index = "apikeys_usage_pkey" if connection.vendor == "postgresql" else "sqlite_autoindex_apikeys_usage_1"
    listed = called_or_active(ApiKey.objects.of(owner), 7)
    assert index in plan(listed.count) and index in plan(lambda: list(listed[:50]))
