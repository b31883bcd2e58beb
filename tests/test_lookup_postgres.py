"""How the gate finds a key in PostgreSQL: as it is now, and never as it was."""

import asyncio
import contextlib
import os
import socket
import socketserver
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any, Self

import pytest
from django.db import connection

from apikeys.gate.lookup import UNKNOWN, Done, Found, Result, Unavailable
from apikeys.gate.postgres import PostgresLookup, shut_down
from apikeys.models import ApiKey
from console.vault import MAX_DIGEST_KEYS
from tests.support.gates import database_url, hanging_database, new_key, table_gone
from tests.support.waiting import wait_for
from tests.support.world import only_postgres


def digest(name: str) -> bytes:
    return name.encode().ljust(32, b".")


def reason(result: Result) -> str:
    """Why the database could not be queried; empty where it was."""
    return result.reason if isinstance(result, Unavailable) else ""


class Asking:
    """The look-up in PostgreSQL, in a loop that runs step by step, and in which no error is lost."""

    def __init__(self, address: str = "") -> None:
        self.lookup = PostgresLookup(address or database_url())
        self.answers: list[Result] = []
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
        """Run the loop once."""
        self.runner.run(asyncio.sleep(0))
        assert not self.faults

    def all_answers(self, count: int) -> list[Result]:
        async def come() -> None:
            while len(self.answers) < count and not self.faults:
                await asyncio.sleep(0.001)

        self.runner.run(asyncio.wait_for(come(), 15))
        assert not self.faults
        answers, self.answers = self.answers, []
        return answers

    def ask(self, *questions: list[bytes]) -> list[Result]:
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


def found(key: ApiKey, deleted: bool = False, disabled: bool = False, expires_at: float | None = None) -> Found:
    return Found(key.id.bytes, key.account_id, deleted, disabled, expires_at)


# PostgreSQL's processes that serve others than the test itself
OTHERS = (
    "FROM pg_stat_activity WHERE datname = current_database()"
    " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
)
UNUSED = [digest(str(n)) for n in range(MAX_DIGEST_KEYS)]


@only_postgres
def test_calls_that_come_together_get_an_answer_each(asking: Asking) -> None:
    active, deleted = new_key()[0], new_key()[0]
    deleted.revoke()
    questions: list[list[bytes]] = []
    answers: list[Result] = []
    for count in range(1, MAX_DIGEST_KEYS + 1):
        questions.append(UNUSED[:count])
        answers.append(UNKNOWN)
        for key in (active, deleted):
            for place in {0, count - 1}:
                questions.append(UNUSED[:place] + of(key) + UNUSED[place : count - 1])
                answers.append(found(key, deleted=key == deleted))
    assert asking.ask(*questions) == answers
    assert [asking.ask(digests) for digests in questions] == [[answer] for answer in answers]


@only_postgres
def test_each_change_is_seen_at_once(asking: Asking, key: ApiKey) -> None:
    moment = datetime(2026, 1, 1, 12, 0, 0, 1, tzinfo=UTC)
    for fields, facts in (
        ({"account_disabled": True}, {"disabled": True}),
        ({"account_disabled": False}, {}),
        ({"disabled_at": moment}, {"disabled": True}),
        ({"disabled_at": None}, {}),
        ({"expires_at": moment}, {"expires_at": moment.timestamp()}),
        ({"expires_at": datetime(1999, 1, 1, tzinfo=UTC)}, {"expires_at": 915148800.0}),
        ({"expires_at": None}, {}),
        ({"deleted_at": moment, "sealed_secret": None}, {"deleted": True}),
    ):
        ApiKey.objects.filter(pk=key.pk).update(**fields)
        assert asking.ask(of(key)) == [found(key, **facts)]


@only_postgres
def test_between_queries_it_sends_nothing_and_holds_no_transaction(asking: Asking, key: ApiKey) -> None:
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
def test_a_call_that_arrives_while_others_are_answered_is_answered_too(asking: Asking, key: ApiKey) -> None:
    def again(answer: Result) -> None:
        asking.answers.append(answer)
        asking.loop.call_soon(asking.find, of(key))
        asking.find(of(key))

    asking.find(of(key), again)
    assert asking.all_answers(3) == [found(key)] * 3


@only_postgres
def test_it_reports_why_it_cannot_query(asking: Asking, key: ApiKey) -> None:
    assert asking.ask(of(key)) == [found(key)]
    with ExitStack() as stack:
        PostgresLookup("").find(of(key), asking.answers.append)
        assert asking.all_answers(1) == [Unavailable("PostgreSQL is not connected yet.")]
        with table_gone():
            late = stack.enter_context(Asking())
            for one in (asking, late, asking, late):
                assert 'relation "apikeys_apikey" does not exist' in reason(*one.ask(of(key)))
        wait_for(lambda: asking.ask(of(key)) == late.ask(of(key)) == [found(key)])


@only_postgres
def test_it_can_be_closed_while_a_call_waits(asking: Asking, key: ApiKey) -> None:
    asking.find(of(key))
    asking.lookup.close()
    asking.turn()
    assert reason(*asking.ask(of(key)))


@only_postgres
def test_calls_that_wait_for_a_database_that_hangs_are_unavailable(asking: Asking, key: ApiKey) -> None:
    assert asking.ask(of(key)) == [found(key)]
    with hanging_database():
        asking.find(of(key))
        asking.turn()
        asking.find(of(key))
        asking.find(UNUSED[:1])
        assert asking.all_answers(3) == [Unavailable("PostgreSQL has not answered in time.")] * 3
        assert reason(*asking.ask(of(key)))  # that one, or why there is no new connection yet
        wait_for(lambda: asking.ask(of(key)) == [found(key)])  # over a new connection


@only_postgres
def test_an_answer_that_arrives_in_parts_is_read_completely(asking: Asking, key: ApiKey) -> None:
    """To one query for thousands of calls."""
    made = [key]
    for _ in range(4000):
        copy = ApiKey(account=key.account, request_id=uuid.uuid4(), created_at=key.created_at)
        copy.hint, copy.digest, copy.sealed_secret = "x", os.urandom(32), b"x"
        made.append(copy)
    ApiKey.objects.bulk_create(made[1:])
    assert asking.ask(*(of(one) for one in made)) == [found(one) for one in made]


@only_postgres
def test_a_query_longer_than_the_sockets_buffer_is_sent_completely(asking: Asking, key: ApiKey) -> None:
    with socket.socket(fileno=os.dup(asking.lookup.socket)) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    assert asking.ask(*[of(key)] * 5000) == [found(key)] * 5000


@only_postgres
def test_a_lost_connection_is_replaced_before_anybody_asks(asking: Asking, key: ApiKey) -> None:
    lost = asking.lookup.connection
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_terminate_backend(pid) {OTHERS}")

    def replaced() -> bool:
        asking.turn()
        if asking.lookup.connection is None:
            asking.find(of(key))
        return asking.lookup.connection not in (lost, None)

    wait_for(replaced)
    assert all(answer == Unavailable("The connection to PostgreSQL was lost.") for answer in asking.answers)
    asking.answers.clear()
    assert asking.ask(of(key)) == [found(key)]


@only_postgres
def test_a_query_that_cannot_be_sent_is_unavailable(asking: Asking, key: ApiKey) -> None:
    assert asking.lookup.connection
    asking.lookup.connection.close()
    assert "closed" in reason(*asking.ask(of(key)))
    wait_for(lambda: asking.ask(of(key)) == [found(key)])


@only_postgres
def test_whatever_keeps_it_from_connecting_it_retries(
    asking: Asking, key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        full.setattr(asyncio, "to_thread", no_thread)
        asking.lookup.fail("for a test")
        wait_for(lambda: asking.ask(of(key)) == [Unavailable("can't start new thread")])
    wait_for(lambda: asking.ask(of(key)) == [found(key)])


async def no_thread(*words: object) -> None:
    raise RuntimeError("can't start new thread")


def test_a_connection_that_is_shut_down_ends_for_both_sides_and_is_its_owners_to_close() -> None:
    near, far = socket.socketpair()
    with near, far:
        shut_down(near.fileno())
        assert near.recv(1) == far.recv(1) == b"" and near.fileno() >= 0


class Swallower(socketserver.StreamRequestHandler):
    """A proxy in front of the test's PostgreSQL that passes on the log-on, and queries only while `swallows` is off."""

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
def test_a_proxy_that_swallows_queries_is_given_up(key: ApiKey, monkeypatch: pytest.MonkeyPatch) -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Swallower) as proxy:
        threading.Thread(target=proxy.serve_forever).start()
        address = database_url().replace(f":{connection.settings_dict['PORT']}/", f":{proxy.server_address[1]}/")
        with Asking(address) as asking:
            assert reason(*asking.ask(of(key)))
            monkeypatch.setattr(Swallower, "swallows", False)
            wait_for(lambda: asking.ask(of(key)) == [found(key)])
        proxy.shutdown()
