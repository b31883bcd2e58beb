"""How the gate finds a key in an SQLite file: what is there now, and nothing else."""

import sqlite3
from pathlib import Path

import pytest

from apikeys.lookup import UNAVAILABLE, Answer, Found, SqliteLookup
from console.vault import MAX_DIGEST_KEYS
from tests.person import wait_for

KEY, OTHER = b"k" * 16, b"o" * 16


def digest(name: str) -> bytes:
    return name.encode().ljust(32, b".")


def database(path: Path, *rows: tuple[bytes, str, str | None, bool]) -> Path:
    """A file with these keys: id, what is digested, when it was deleted, whether it is disabled."""
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TABLE apikeys_apikey (id TEXT, account_id INTEGER, digest BLOB, deleted_at TEXT, disabled BOOL)"
        )
        connection.execute("CREATE INDEX keys_for_the_gate ON apikeys_apikey (digest)")
        for key_id, name, deleted_at, disabled in rows:
            row = (key_id.hex(), 7, digest(name), deleted_at, disabled)
            connection.execute("INSERT INTO apikeys_apikey VALUES (?, ?, ?, ?, ?)", row)
    connection.close()
    return path


def find(lookup: SqliteLookup, *names: str) -> Answer:
    answers: list[Answer] = []
    lookup.find([digest(name) for name in names], answers.append)
    (answer,) = answers
    return answer


@pytest.mark.parametrize("count", range(1, MAX_DIGEST_KEYS + 1))
def test_whichever_digest_is_the_stored_one(tmp_path: Path, count: int) -> None:
    lookup = SqliteLookup(database(tmp_path / "db", (KEY, "key", None, False)))
    names = [str(n) for n in range(count - 1)]
    for place in range(count):
        assert find(lookup, *names[:place], "key", *names[place:]) == Found(KEY, 7, True)
    assert find(lookup, *names, "none") is None
    lookup.close()


def test_what_is_deleted_or_disabled_is_not_active(tmp_path: Path) -> None:
    rows = ((KEY, "deleted", "2026-01-01", False), (OTHER, "disabled", None, True))
    lookup = SqliteLookup(database(tmp_path / "db", *rows))
    assert find(lookup, "deleted") == Found(KEY, 7, False)
    assert find(lookup, "disabled") == Found(OTHER, 7, False)
    lookup.close()


def test_a_file_that_is_not_there_is_not_made_and_found_when_it_comes(tmp_path: Path) -> None:
    lookup = SqliteLookup(tmp_path / "db")
    assert find(lookup, "key") == find(lookup, "key") == UNAVAILABLE
    assert not [*tmp_path.iterdir()]
    database(tmp_path / "db", (KEY, "key", None, False))
    assert find(lookup, "key") == Found(KEY, 7, True)
    lookup.close()


def test_a_file_that_was_put_in_the_place_of_another_is_asked_soon(tmp_path: Path) -> None:
    lookup = SqliteLookup(database(tmp_path / "db", (KEY, "key", None, False)))
    assert find(lookup, "key") == Found(KEY, 7, True)
    database(tmp_path / "other", (OTHER, "other", None, False)).rename(tmp_path / "db")
    wait_for(lambda: find(lookup, "key") is None, 5)
    assert find(lookup, "other") == Found(OTHER, 7, True)
    (tmp_path / "db").unlink()
    wait_for(lambda: find(lookup, "other") == UNAVAILABLE, 5)


def test_a_file_that_is_none_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "db").write_text("no database at all, but a text of some length")
    lookup = SqliteLookup(tmp_path / "db")
    assert find(lookup, "key") == UNAVAILABLE
    assert lookup.connection is None


def test_it_writes_nothing(tmp_path: Path) -> None:
    lookup = SqliteLookup(database(tmp_path / "db", (KEY, "key", None, False)))
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        lookup.cursor().execute("DELETE FROM apikeys_apikey")
    lookup.close()
    assert lookup.connection is None
