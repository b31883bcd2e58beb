"""What the gate answers, on the database that the tests run on."""

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from django.db import connection

from apikeys import keyformat
from apikeys.lookup import Answer, Found, PostgresLookup
from apikeys.models import ApiKey
from tests.gates import Gate, database_url, new_key
from tests.person import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


def only_postgres(test: Callable[..., None]) -> Callable[..., None] | None:
    """A test of what only PostgreSQL does (SQLite is asked within the loop, for each call alone): elsewhere there is
    no such test, rather than one that asserts nothing."""
    return test if connection.vendor == "postgresql" else None


TOKEN = b"dashvector-auth-token: "


@pytest.fixture
def gate(tmp_path: Path, transactional_db: None) -> Iterator[Gate]:
    with Gate(tmp_path, TRUSTED_PROXIES="127.0.0.1") as started:
        yield started


def refusal(answer: tuple[int, dict[str, str], bytes]) -> str:
    """Why a call was refused, the answer's form checked."""
    status, headers, body = answer
    assert status == 401
    assert headers["cache-control"] == "no-store" and headers["www-authenticate"] == "Bearer"
    said = json.loads(body)
    assert uuid.UUID(said["request_id"]) and said["code"] == 401 and said["message"].endswith(".")
    return headers["x-api-key-status"]


def test_it_answers_what_the_contract_says(gate: Gate) -> None:
    key, secret = new_key()
    sent = secret.encode()
    for method in (b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"):
        status, headers, body = gate.ask(TOKEN + sent, method=method)
        assert (status, body) == (200, b"")
        assert headers["x-account-id"] == str(key.account_id) and headers["x-api-key-id"] == str(key.id)
        assert "set-cookie" not in headers and "location" not in headers
        assert not any(name.startswith("access-control") for name in headers)
    for header in (b"Authorization: Bearer ", b"authorization: bearer ", b"AUTHORIZATION: bEARER   "):
        assert gate.ask(header + sent)[0] == 200
    for path in (b"/verify?with=query", b"/verify/v1/collections"):
        assert gate.ask(TOKEN + sent, path=path)[0] == 200
    key.delete()
    assert refusal(gate.ask(TOKEN + sent)) == "deleted"
    assert refusal(gate.ask(TOKEN + keyformat.new_secret().encode())) == "unknown"


def test_every_odd_header_has_its_answer(gate: Gate) -> None:
    secret, other = (new_key()[1].encode() for _ in range(2))
    bearer = b"Authorization: Bearer "
    table: list[tuple[list[bytes], str]] = [
        ([], "missing"),
        ([TOKEN], "missing"),
        ([TOKEN + b"   "], "missing"),
        ([b"Authorization: Basic dXNlcjpwYXNz"], "missing"),
        ([b"Authorization: " + secret], "missing"),
        ([b"Authorization: Bearer"], "missing"),
        ([TOKEN + b"sk-short"], "malformed"),
        ([TOKEN + secret[:-1] + b"-"], "malformed"),
        ([TOKEN + secret + b" " + secret], "malformed"),
        ([TOKEN + b"x" * 8192], "malformed"),
        ([TOKEN + secret[:-1] + b"\xe9"], "malformed"),
        ([TOKEN + "sk-é".encode()], "malformed"),
        ([TOKEN + secret, TOKEN + other], "malformed"),
        ([bearer + secret, bearer + other], "malformed"),
        ([TOKEN + b"garbage", bearer + secret], "malformed"),
    ]
    for headers, status in table:
        assert refusal(gate.ask(*headers)) == status, headers
    for headers in ([TOKEN, bearer + secret], [TOKEN + secret, TOKEN + secret], [TOKEN + secret, bearer + other]):
        assert gate.ask(*headers)[0] == 200, headers
    for body in (gate.ask(TOKEN + secret[:-1] + b"-")[2], gate.ask(TOKEN + keyformat.new_secret().encode())[2]):
        assert b"sk-" not in body
    assert gate.ask(TOKEN + secret[:20] + b"\0" + secret[20:])[0] == 400
    assert gate.ask(b"x: " + b"y" * 40_000, TOKEN + secret)[0] == 431
    assert gate.ask(TOKEN + secret, path=b"/other")[0] == 404
    assert gate.ask(TOKEN + secret, path=b"/verifyother")[0] == 404


def test_it_speaks_http(gate: Gate) -> None:
    secret = new_key()[1].encode()
    call = b"GET /verify HTTP/1.1\r\nHost: gate\r\n" + TOKEN + secret + b"\r\n"
    pipelined = gate.send((call + b"\r\n") * 3 + call + b"Connection: close\r\n\r\n")
    assert pipelined.count(b"HTTP/1.1 200 OK") == 4
    assert gate.send(b"GET /verify HTTP/1.0\r\n" + TOKEN + secret + b"\r\n\r\n").startswith(b"HTTP/1.1 200 OK")
    with_body = b"POST /verify HTTP/1.1\r\nHost: gate\r\nContent-Length: 3\r\nConnection: close\r\n" + TOKEN + secret
    assert gate.send(with_body + b"\r\n\r\nabc").startswith(b"HTTP/1.1 200 OK")
    asked_first = gate.send(with_body + b"\r\nExpect: 100-continue\r\n\r\nabc")
    assert asked_first.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")
    refused = gate.send(b"HEAD /verify HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n")
    assert refused.startswith(b"HTTP/1.1 401") and refused.endswith(b"\r\n\r\n")
    upgraded = gate.send(call + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
    assert upgraded.startswith(b"HTTP/1.1 200 OK") and b"connection: close" in upgraded
    assert gate.send(b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400")
    endless = b"POST /verify HTTP/1.1\r\nHost: gate\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 1_200_000
    assert gate.send(endless).startswith(b"HTTP/1.1 413")
    with socket.create_connection(("127.0.0.1", gate.port), timeout=20) as slow:
        for part in (call[:10], call[10:40], call[40:] + b"Connection: close\r\n", b"\r\n"):
            slow.sendall(part)
        assert slow.recv(12) == b"HTTP/1.1 200"


def test_a_call_that_never_comes_whole_is_ended(gate: Gate) -> None:
    assert gate.send(b"GET /verify HTTP/1.1\r\nHost: ").startswith(b"HTTP/1.1 408")


@contextlib.contextmanager
def database_gone(address: str) -> Iterator[None]:
    """The test's database out of everybody's reach."""
    name = str(connection.settings_dict["NAME"])
    connection.close()
    if connection.vendor == "sqlite":
        away = Path(name).rename(f"{name}.away")
        yield
        away.rename(name)
        return
    with psycopg.connect(address.replace(f"/{name}", "/postgres"), autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        yield
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())


def test_it_fails_closed_while_its_database_is_gone_and_recovers(gate: Gate) -> None:
    secret = new_key()[1]
    assert gate.status(secret) == 200
    with database_gone(gate.environment["DATABASE_URL"]):
        wait_for(lambda: {gate.status(secret) for _ in range(10)} == {503})  # each worker has noticed
        status, headers, body = gate.ask(TOKEN + secret.encode())
        assert status == 503 and json.loads(body)["code"] == 503 and headers["retry-after"] == "1"
        assert refusal(gate.ask()) == "missing"
    wait_for(lambda: gate.status(secret) == 200)


def test_the_callers_address_is_what_a_trusted_proxy_says(gate: Gate, tmp_path: Path) -> None:
    key, secret = new_key()
    gate.ask(TOKEN + secret.encode(), b"X-Forwarded-For: 198.51.100.1, 203.0.113.7")
    wait_for(lambda: ApiKey.objects.get(pk=key.pk).last_call)
    assert key.usage.get().last_call_from == "203.0.113.7"
    untrusting, key_2, secret_2 = Gate(tmp_path / "second"), *new_key()
    with untrusting:
        untrusting.ask(TOKEN + secret_2.encode(), b"X-Forwarded-For: 203.0.113.7")
        wait_for(lambda: ApiKey.objects.get(pk=key_2.pk).last_call)
    assert key_2.usage.get().last_call_from == "127.0.0.1"


def test_without_room_to_count_it_accepts_nothing(gate: Gate, tmp_path: Path) -> None:
    secret = new_key()[1]
    (tmp_path / "metering").rename(tmp_path / "elsewhere")
    wait_for(lambda: gate.status(secret) == 503)
    (tmp_path / "elsewhere").rename(tmp_path / "metering")
    wait_for(lambda: gate.status(secret) == 200)


def test_before_its_migrations_it_accepts_nothing(tmp_path: Path, transactional_db: None) -> None:
    address = database_url()
    if connection.vendor == "sqlite":
        address = f"sqlite:///{tmp_path}/empty.sqlite3"
        (tmp_path / "empty.sqlite3").touch()
    else:
        address = address.rpartition("/")[0] + "/template1"
    with Gate(tmp_path, DATABASE_URL=address) as gate:
        assert gate.status(keyformat.new_secret()) == 503


def test_while_its_table_is_gone_it_accepts_nothing(gate: Gate) -> None:
    secret = new_key()[1]
    assert gate.status(secret) == 200
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE apikeys_apikey RENAME TO gone")
        try:
            wait_for(lambda: {gate.status(secret) for _ in range(10)} == {503})
        finally:
            cursor.execute("ALTER TABLE gone RENAME TO apikeys_apikey")
    wait_for(lambda: {gate.status(secret) for _ in range(10)} == {200})


@only_postgres
def test_an_answer_that_comes_in_parts_is_read_whole(transactional_db: None) -> None:
    """All that PostgreSQL is asked at once by thousands of calls."""
    made = [new_key()[0]]
    for _ in range(4000):
        copy = ApiKey(account=made[0].account, request_id=uuid.uuid4(), created_at=made[0].created_at)
        copy.hint, copy.digest, copy.sealed_secret = "x", os.urandom(32), b"x"
        made.append(copy)
    ApiKey.objects.bulk_create(made[1:])

    async def ask_all() -> list[Answer]:
        lookup = PostgresLookup(database_url())
        await lookup.open()
        answers: list[Answer] = []
        for key in made:
            lookup.find([bytes(key.digest)], answers.append)
        while len(answers) < len(made):
            await asyncio.sleep(0)
        lookup.close()
        return answers

    answers = asyncio.run(asyncio.wait_for(ask_all(), 30))
    assert [answer.key_id for answer in answers if isinstance(answer, Found)] == [key.id.bytes for key in made]


def test_past_its_connections_a_worker_answers_503(tmp_path: Path, transactional_db: None) -> None:
    secret = new_key()[1]
    with Gate(tmp_path, workers=1, GATE_MAX_CONNECTIONS="2") as gate, contextlib.ExitStack() as held:
        for _ in range(2):
            idle = held.enter_context(socket.create_connection(("127.0.0.1", gate.port), timeout=20))
            idle.sendall(b"GET /verify HTTP/1.1\r\nHost: gate\r\n\r\n")
            assert idle.recv(12) == b"HTTP/1.1 401"
        assert gate.status(secret) == 503
        held.close()
        wait_for(lambda: gate.status(secret) == 200)


def test_out_of_file_descriptors_it_waits_and_recovers(tmp_path: Path, transactional_db: None) -> None:
    secret = new_key()[1]
    with Gate(tmp_path, workers=1) as gate:
        assert gate.status(secret) == 200
        (worker,) = gate.workers()
        limits = resource.prlimit(worker, resource.RLIMIT_NOFILE)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (3, limits[1]))
        with socket.create_connection(("127.0.0.1", gate.port), timeout=20) as caller:
            caller.sendall(b"GET /verify HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n")
            with pytest.raises(TimeoutError):
                caller.settimeout(0.2)
                caller.recv(12)
            resource.prlimit(worker, resource.RLIMIT_NOFILE, limits)
            caller.settimeout(20)
            assert caller.recv(12) == b"HTTP/1.1 401"


def test_workers_end_when_their_master_is_killed(gate: Gate) -> None:
    workers = gate.workers()
    gate.master.kill()
    gate.master.wait()
    wait_for(lambda: not any(Path(f"/proc/{worker}/cmdline").exists() for worker in workers))


@only_postgres
def test_a_database_that_hangs_is_not_waited_for(gate: Gate) -> None:
    secret = new_key()[1]
    assert gate.status(secret) == 200
    name = connection.settings_dict["NAME"]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = %s AND query LIKE '%%ANY(%%' AND pid <> pg_backend_pid()",
            [name],
        )
        backends = [row[0] for row in cursor.fetchall()]
    assert backends
    for backend in backends:
        os.kill(backend, signal.SIGSTOP)
    try:
        wait_for(lambda: gate.status(secret) == 503)
        wait_for(lambda: {gate.status(secret) for _ in range(4)} == {200})  # over new connections
    finally:
        for backend in backends:
            os.kill(backend, signal.SIGCONT)


def test_a_worker_told_to_stop_answers_who_is_there(gate: Gate) -> None:
    secret = new_key()[1].encode()
    call = b"GET /verify HTTP/1.1\r\nHost: gate\r\n" + TOKEN + secret + b"\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gate.port), timeout=20) as idle:
        idle.sendall(call)
        assert idle.recv(65536).startswith(b"HTTP/1.1 200")
        gate.master.terminate()
        assert idle.recv(65536) == b""
    assert gate.master.wait(20) == 0
