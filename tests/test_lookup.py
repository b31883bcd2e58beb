"""How the gate finds a key in its database: what is there now, and nothing else."""

import asyncio
import contextlib
import os
import socket
import socketserver
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import pytest
from django.db import connection

from apikeys.gate.lookup import SAME_FILE_SECONDS, Answer, Done, Found, PostgresLookup, SqliteLookup, shut
from apikeys.models import ApiKey
from console.vault import MAX_DIGEST_KEYS
from tests.support.gates import database_url, hanging_database, new_key, table_gone
from tests.support.person import wait_for
from tests.support.world import only_postgres

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


def why(answer: Answer) -> str:
    """Why the database cannot be asked; nothing where it was."""
    return answer if isinstance(answer, str) else ""


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
    for _ in range(2):
        assert "No such file" in why(find(lookup, "key"))
    assert not [*tmp_path.iterdir()]
    database(tmp_path / "db", (KEY, "key", None, False))
    assert find(lookup, "key") == Found(KEY, 7, True)
    lookup.close()


def let_it_look_again() -> None:
    then = time.monotonic()
    wait_for(lambda: time.monotonic() - then > SAME_FILE_SECONDS)


def test_a_file_that_was_put_in_the_place_of_another_is_asked_soon(tmp_path: Path) -> None:
    lookup = SqliteLookup(database(tmp_path / "db", (KEY, "key", None, False)))
    assert find(lookup, "key") == Found(KEY, 7, True)
    database(tmp_path / "other", (OTHER, "other", None, False)).rename(tmp_path / "db")
    let_it_look_again()
    assert find(lookup, "key") is None
    assert find(lookup, "other") == Found(OTHER, 7, True)
    (tmp_path / "db").unlink()
    let_it_look_again()
    assert "No such file" in why(find(lookup, "other"))


def test_after_a_fault_the_same_file_is_asked_anew(tmp_path: Path) -> None:
    lookup = SqliteLookup(database(tmp_path / "db", (KEY, "key", None, False)))
    with sqlite3.connect(tmp_path / "db") as other:
        other.execute("ALTER TABLE apikeys_apikey RENAME TO gone")
        assert "no such" in why(find(lookup, "key"))
        other.execute("ALTER TABLE gone RENAME TO apikeys_apikey")
    other.close()
    assert find(lookup, "key") == Found(KEY, 7, True)
    lookup.close()


def test_a_file_that_is_none_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "db").write_text("no database at all, but a text of some length")
    lookup = SqliteLookup(tmp_path / "db")
    assert why(find(lookup, "key")) == "file is not a database"
    assert lookup.connection is None


def test_it_writes_nothing(tmp_path: Path) -> None:
    lookup = SqliteLookup(database(tmp_path / "db", (KEY, "key", None, False)))
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        lookup.cursor().execute("DELETE FROM apikeys_apikey")
    lookup.close()
    assert lookup.connection is None


class Asking:
    """PostgreSQL, in a loop that goes on when it is told to, and in which nothing fails unseen."""

    def __init__(self, address: str = "") -> None:
        self.lookup = PostgresLookup(address or database_url())
        self.answers: list[Answer] = []
        self.faults: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        self.runner = asyncio.Runner()
        self.loop = self.runner.get_loop()
        self.loop.set_exception_handler(lambda loop, fault: self.faults.append(fault))
        self.runner.run(asyncio.wait_for(self.lookup.open(), 15))
        return self

    def __exit__(self, *args: object) -> None:
        self.lookup.close()
        self.turn()
        self.runner.close()

    def find(self, digests: list[bytes], done: Done | None = None) -> None:
        self.lookup.find(digests, done or self.answers.append)

    def turn(self) -> None:
        """Let the loop do what it has to."""
        self.runner.run(asyncio.sleep(0))
        assert not self.faults

    def all_answers(self, count: int) -> list[Answer]:
        async def come() -> None:
            while len(self.answers) < count and not self.faults:
                await asyncio.sleep(0.001)

        self.runner.run(asyncio.wait_for(come(), 15))
        assert not self.faults
        answers, self.answers = self.answers, []
        return answers

    def ask(self, *questions: list[bytes]) -> list[Answer]:
        """All at once."""
        for digests in questions:
            self.find(digests)
        return self.all_answers(len(questions))


@pytest.fixture
def asking(transactional_db: None) -> Iterator[Asking]:
    with Asking() as asking:
        yield asking


@pytest.fixture
def key(transactional_db: None) -> ApiKey:
    return new_key()[0]


def of(key: ApiKey) -> list[bytes]:
    return [bytes(key.digest)]


def found(key: ApiKey, active: bool = True) -> Found:
    return Found(key.id.bytes, key.account_id, active)


# PostgreSQL's processes that serve another than the test itself
OTHERS = (
    "FROM pg_stat_activity WHERE datname = current_database()"
    " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
)
NOBODYS = [digest(str(n)) for n in range(MAX_DIGEST_KEYS)]


@only_postgres
def test_calls_that_come_together_get_an_answer_each(asking: Asking) -> None:
    active, deleted, disabled = (new_key()[0] for _ in range(3))
    deleted.revoke()
    ApiKey.objects.filter(pk=disabled.pk).update(account_disabled=True)
    questions: list[list[bytes]] = []
    answers: list[Answer] = []
    for count in range(1, MAX_DIGEST_KEYS + 1):
        questions.append(NOBODYS[:count])
        answers.append(None)
        for one in (active, deleted, disabled):
            for place in {0, count - 1}:
                questions.append(NOBODYS[:place] + of(one) + NOBODYS[place : count - 1])
                answers.append(found(one, one == active))
    assert asking.ask(*questions) == answers
    assert [asking.ask(digests) for digests in questions] == [[answer] for answer in answers]


@only_postgres
def test_each_change_is_seen_at_once(asking: Asking, key: ApiKey) -> None:
    for disabled in (False, True, False):
        ApiKey.objects.filter(pk=key.pk).update(account_disabled=disabled)
        assert asking.ask(of(key)) == [found(key, not disabled)]
    key.revoke()
    assert asking.ask(of(key)) == [found(key, False)]


@only_postgres
def test_between_questions_it_asks_nothing_and_holds_no_transaction(asking: Asking, key: ApiKey) -> None:
    def session() -> list[tuple[str, object]]:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT state, state_change {OTHERS}")
            return [(state, since) for state, since in cursor.fetchall()]

    assert asking.ask(of(key)) == [found(key)]
    ((state, since),) = session()
    assert state == "idle"
    for _ in range(5):
        asking.turn()
        assert session() == [("idle", since)]


@only_postgres
def test_who_asks_while_others_are_answered_is_answered_too(asking: Asking, key: ApiKey) -> None:
    def again(answer: Answer) -> None:
        asking.answers.append(answer)
        asking.loop.call_soon(asking.find, of(key))
        asking.find(of(key))

    asking.find(of(key), again)
    assert asking.all_answers(3) == [found(key)] * 3


@only_postgres
def test_what_it_cannot_ask_it_says(asking: Asking, key: ApiKey) -> None:
    assert asking.ask(of(key)) == [found(key)]
    with ExitStack() as stack:
        PostgresLookup("").find(of(key), asking.answers.append)
        assert asking.all_answers(1) == ["PostgreSQL is not connected yet."]
        with table_gone():
            late = stack.enter_context(Asking())
            for one in (asking, late, asking, late):
                assert 'relation "apikeys_apikey" does not exist' in why(*one.ask(of(key)))
        wait_for(lambda: asking.ask(of(key)) == late.ask(of(key)) == [found(key)])


@only_postgres
def test_it_can_be_closed_while_a_call_waits(asking: Asking, key: ApiKey) -> None:
    asking.find(of(key))
    asking.lookup.close()
    asking.turn()
    assert why(*asking.ask(of(key)))


@only_postgres
def test_who_waits_for_a_database_that_hangs_is_told_so(asking: Asking, key: ApiKey) -> None:
    assert asking.ask(of(key)) == [found(key)]
    with hanging_database():
        asking.find(of(key))
        asking.turn()
        asking.find(of(key))
        asking.find(NOBODYS[:1])
        assert asking.all_answers(3) == ["PostgreSQL has not answered in time."] * 3
        assert asking.ask(of(key)) == ["PostgreSQL has not answered in time."]
        wait_for(lambda: asking.ask(of(key)) == [found(key)])  # over a new connection


@only_postgres
def test_an_answer_that_comes_in_parts_is_read_whole(asking: Asking, key: ApiKey) -> None:
    """All that PostgreSQL is asked at once by thousands of calls."""
    made = [key]
    for _ in range(4000):
        copy = ApiKey(account=key.account, request_id=uuid.uuid4(), created_at=key.created_at)
        copy.hint, copy.digest, copy.sealed_secret = "x", os.urandom(32), b"x"
        made.append(copy)
    ApiKey.objects.bulk_create(made[1:])
    assert asking.ask(*(of(one) for one in made)) == [found(one) for one in made]


@only_postgres
def test_a_question_longer_than_the_sockets_buffer_is_asked_whole(asking: Asking, key: ApiKey) -> None:
    with socket.socket(fileno=os.dup(asking.lookup.socket)) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    assert asking.ask(*[of(key)] * 5000) == [found(key)] * 5000


@only_postgres
def test_a_connection_lost_is_made_anew_before_anybody_asks(asking: Asking, key: ApiKey) -> None:
    lost = asking.lookup.connection
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_terminate_backend(pid) {OTHERS}")

    def anew() -> bool:
        asking.turn()
        if asking.lookup.connection is None:
            asking.find(of(key))
        return asking.lookup.connection not in (lost, None)

    wait_for(anew)
    assert set(asking.answers) == {"The connection to PostgreSQL was lost."}
    asking.answers.clear()
    assert asking.ask(of(key)) == [found(key)]


@only_postgres
def test_a_question_that_cannot_be_sent_is_answered_unavailable(asking: Asking, key: ApiKey) -> None:
    assert asking.lookup.connection
    asking.lookup.connection.close()
    assert "closed" in why(*asking.ask(of(key)))
    wait_for(lambda: asking.ask(of(key)) == [found(key)])


@only_postgres
def test_whatever_keeps_it_from_connecting_it_goes_on_trying(
    asking: Asking, key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        full.setattr(asyncio, "to_thread", no_thread)
        asking.lookup.fail("for a test")
        wait_for(lambda: asking.ask(of(key)) == ["can't start new thread"])
    wait_for(lambda: asking.ask(of(key)) == [found(key)])


async def no_thread(*words: object) -> None:
    raise RuntimeError("can't start new thread")


def test_a_connection_that_is_shut_ends_for_both_sides_and_stays_its_owners_to_close() -> None:
    near, far = socket.socketpair()
    with near, far:
        shut(near.fileno())
        assert near.recv(1) == far.recv(1) == b"" and near.fileno() >= 0


class Swallower(socketserver.StreamRequestHandler):
    """A proxy before the test's PostgreSQL that passes on the log-on; what is asked then, only if `swallows` is off."""

    swallows = True

    def handle(self) -> None:
        found = connection.settings_dict
        with socket.create_connection((found["HOST"], found["PORT"])) as server:
            back = threading.Thread(target=self.pass_on, args=(server, self.connection))
            back.start()
            self.pass_on(self.connection, server)
            server.shutdown(socket.SHUT_RDWR)
            back.join()

    def pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not (self.swallows and source is self.connection and data[:1] in b"QP"):
                    target.sendall(data)


@only_postgres
def test_a_proxy_that_swallows_what_is_asked_is_given_up(key: ApiKey, monkeypatch: pytest.MonkeyPatch) -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Swallower) as proxy:
        threading.Thread(target=proxy.serve_forever).start()
        address = database_url().replace(f":{connection.settings_dict['PORT']}/", f":{proxy.server_address[1]}/")
        with Asking(address) as asking:
            assert asking.ask(of(key)) == ["PostgreSQL is not connected yet."]
            monkeypatch.setattr(Swallower, "swallows", False)
            wait_for(lambda: asking.ask(of(key)) == [found(key)])
        proxy.shutdown()
