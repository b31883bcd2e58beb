"""How the gate finds a key in SQLite: as it is now, and never as it was."""

import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.db import connection

from apikeys.gate.lookup import UNKNOWN, Found, Result, Unavailable
from apikeys.gate.sqlite import QUERY, SAME_FILE_SECONDS, SqliteLookup
from console.vault import MAX_DIGEST_KEYS
from tests.support.waiting import wait_for

pytestmark = pytest.mark.once
KEY, OTHER = b"k" * 16, b"o" * 16
COLUMNS = "id, account_id, digest, deleted_at, disabled_at, account_disabled, expires_at"
NOON, NOON_TEXT = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp(), "2026-01-01 12:00:00"


def digest(name: str) -> bytes:
    return name.encode().ljust(32, b".")


def database(path: Path, *keys: tuple[bytes, str], **fields: object) -> Path:
    """A file with these keys (id, and what is digested), each with these fields."""
    row = {"account_id": 7, "account_disabled": False} | fields
    with sqlite3.connect(path) as file:
        file.execute(f"CREATE TABLE apikeys_apikey ({COLUMNS})")
        file.execute("CREATE INDEX keys_for_the_gate ON apikeys_apikey (digest)")
        for key_id, name in keys:
            each = row | {"id": key_id.hex(), "digest": digest(name)}
            places = ", ".join("?" * len(each))
            file.execute(f"INSERT INTO apikeys_apikey ({', '.join(each)}) VALUES ({places})", [*each.values()])
    file.close()
    return path


def active(key_id: bytes) -> Found:
    return Found(key_id, 7, deleted=False, disabled=False, expires_at=None)


def find(lookup: SqliteLookup, *names: str) -> Result:
    results: list[Result] = []
    lookup.find([digest(name) for name in names], results.append)
    (result,) = results
    return result


def reason(result: Result) -> str:
    """Why the database could not be queried; empty where it was."""
    return result.reason if isinstance(result, Unavailable) else ""


@pytest.fixture
def lookup(tmp_path: Path) -> Iterator[SqliteLookup]:
    """For a file that does not exist yet."""
    lookup = SqliteLookup(tmp_path / "db")
    yield lookup
    lookup.close()
    assert lookup.connection is None


def test_it_writes_to_no_database(lookup: SqliteLookup) -> None:
    """Whoever has taken the gate cannot make a key active with its connection. What others write is seen meanwhile,
    also where the gate has come first to a file with a write-ahead log."""
    with sqlite3.connect(database(lookup.path, (KEY, "key"))) as file:
        file.execute("PRAGMA journal_mode = WAL")
    file.close()
    assert find(lookup, "key") == active(KEY)
    with sqlite3.connect(lookup.path) as file:
        file.execute("UPDATE apikeys_apikey SET deleted_at = ?", [NOON_TEXT])
    assert find(lookup, "key") == Found(KEY, 7, deleted=True, disabled=False, expires_at=None)
    assert lookup.connection
    lookup.connection.execute("PRAGMA query_only = 0")
    with pytest.raises(sqlite3.OperationalError, match="attempt to write a readonly database"):
        lookup.connection.execute("UPDATE apikeys_apikey SET deleted_at = NULL")
    file.close()


@pytest.mark.parametrize("count", range(1, MAX_DIGEST_KEYS + 1))
def test_whichever_digest_is_the_stored_one(lookup: SqliteLookup, count: int) -> None:
    database(lookup.path, (KEY, "key"))
    names = [str(n) for n in range(count - 1)]
    for place in range(count):
        assert find(lookup, *names[:place], "key", *names[place:]) == active(KEY)
    assert find(lookup, *names, "none") == UNKNOWN


@pytest.mark.parametrize(
    ("fields", "facts"),
    [
        ({}, (False, False, None)),
        ({"deleted_at": NOON_TEXT}, (True, False, None)),
        ({"disabled_at": NOON_TEXT}, (False, True, None)),
        ({"account_disabled": True}, (False, True, None)),
        ({"expires_at": NOON_TEXT}, (False, False, NOON)),
        ({"expires_at": f"{NOON_TEXT}.000001"}, (False, False, NOON + 1e-6)),
        (
            {"deleted_at": NOON_TEXT, "disabled_at": NOON_TEXT, "account_disabled": True, "expires_at": NOON_TEXT},
            (True, True, NOON),
        ),
    ],
)
def test_it_reports_what_a_status_follows_from(
    lookup: SqliteLookup, fields: dict[str, object], facts: tuple[bool, bool, float | None]
) -> None:
    database(lookup.path, (KEY, "key"), **fields)
    assert find(lookup, "key") == Found(KEY, 7, *facts)


@pytest.mark.parametrize("fields", [{"account_disabled": None}, {"account_disabled": 2}])
def test_a_flag_that_is_neither_on_nor_off_is_on(lookup: SqliteLookup, fields: dict[str, object]) -> None:
    database(lookup.path, (KEY, "key"), **fields)
    assert find(lookup, "key") == Found(KEY, 7, deleted=False, disabled=True, expires_at=None)


def test_an_expiry_that_cannot_be_read_is_unavailable(lookup: SqliteLookup) -> None:
    database(lookup.path, (KEY, "key"), expires_at="tomorrow")
    assert "tomorrow" in reason(find(lookup, "key"))


def test_a_file_that_does_not_exist_is_not_created_and_found_when_it_comes(lookup: SqliteLookup) -> None:
    for _ in range(2):
        assert "No such file" in reason(find(lookup, "key"))
    assert not [*lookup.path.parent.iterdir()]
    database(lookup.path, (KEY, "key"))
    assert find(lookup, "key") == active(KEY)


def wait_until_it_looks_again() -> None:
    then = time.monotonic()
    wait_for(lambda: time.monotonic() - then > SAME_FILE_SECONDS)


def test_a_file_that_replaced_another_is_asked_soon(lookup: SqliteLookup) -> None:
    database(lookup.path, (KEY, "key"))
    assert find(lookup, "key") == active(KEY)
    database(lookup.path.with_name("other"), (OTHER, "other")).rename(lookup.path)
    wait_until_it_looks_again()
    assert find(lookup, "key") == UNKNOWN
    assert find(lookup, "other") == active(OTHER)
    lookup.path.unlink()
    wait_until_it_looks_again()
    assert "No such file" in reason(find(lookup, "other"))


def test_after_an_error_the_same_file_is_asked_again(lookup: SqliteLookup) -> None:
    database(lookup.path, (KEY, "key"))
    with sqlite3.connect(lookup.path) as other:
        other.execute("ALTER TABLE apikeys_apikey RENAME TO elsewhere")
        assert "no such" in reason(find(lookup, "key"))
        other.execute("ALTER TABLE elsewhere RENAME TO apikeys_apikey")
    other.close()
    assert find(lookup, "key") == active(KEY)


def test_a_file_that_is_no_database_is_unavailable(lookup: SqliteLookup) -> None:
    lookup.path.write_text("no database at all, but a text of some length")
    assert reason(find(lookup, "key")) == "file is not a database"
    assert lookup.connection is None


def test_it_writes_nothing(lookup: SqliteLookup) -> None:
    database(lookup.path, (KEY, "key"))
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        lookup.cursor().execute("DELETE FROM apikeys_apikey")


@pytest.mark.django_db
@pytest.mark.skipif(connection.vendor != "sqlite", reason="needs SQLite")
def test_it_is_answered_from_an_index_alone() -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {QUERY % '%s, %s'}", [digest("one"), digest("two")])
        plan = " ".join(str(row) for row in cursor.fetchall())
    assert "USING COVERING INDEX keys_for_the_gate (digest=?)" in plan
