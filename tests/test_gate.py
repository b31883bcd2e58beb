"""What the gate answers, on the database that the tests run on."""

import asyncio
import contextlib
import json
import os
import re
import resource
import signal
import socket
import struct
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from django.conf import settings
from django.db import connection

from apikeys import keyformat
from apikeys.gate_worker import RESERVED_FILES
from apikeys.lookup import UNAVAILABLE, Answer, Found, PostgresLookup
from apikeys.models import ApiKey
from tests.conftest import only_postgres
from tests.gates import Gate, database_url, new_key
from tests.person import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


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
    for headers in (
        [TOKEN, bearer + secret],
        [TOKEN + secret, TOKEN + secret],
        [TOKEN + b" \t" + secret + b"\t "],
        [TOKEN + secret, bearer + other],
    ):
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
    then_noise = gate.send((call + b"\r\n") * 2 + b"nonsense\r\n\r\n")
    assert re.findall(rb"HTTP/1.1 (\d+)", then_noise) == [b"200", b"200", b"400"], "answers keep their order"
    assert gate.send(call + b"Connection: close\r\n\r\nX").count(b"HTTP/1.1") == 1
    half_closed = gate.send((call + b"\r\n") * 3, half_close=True)
    assert half_closed.count(b"HTTP/1.1 200 OK") == 3
    assert gate.send(b"GET /verify HTTP/1.0\r\n" + TOKEN + secret + b"\r\n\r\n").startswith(b"HTTP/1.1 200 OK")
    with_body = b"POST /verify HTTP/1.1\r\nHost: gate\r\nContent-Length: 3\r\nConnection: close\r\n" + TOKEN + secret
    assert gate.send(with_body + b"\r\n\r\nabc").startswith(b"HTTP/1.1 200 OK")
    asked_first = gate.send(with_body + b"\r\nExpect: 100-continue\r\n\r\nabc")
    assert asked_first.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")
    assert gate.send(call.replace(b"/verify", b"http://gate/verify") + b"Connection: close\r\n\r\n")[9:12] == b"200"
    in_trailer = b"POST /verify HTTP/1.1\r\nHost: gate\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert b"missing" in gate.send(in_trailer + b"0\r\n" + TOKEN + secret + b"\r\n\r\n")
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


def metrics(gate: Gate) -> dict[str, float]:
    text = gate.ask(path=b"/metrics")[2].decode()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if line[0] != "#"}


def test_its_metrics_are_of_all_workers(gate: Gate) -> None:
    secret, (gone, deleted) = new_key()[1], new_key()
    gone.delete()
    before = metrics(gate)
    for sent in (secret, secret, secret, deleted, keyformat.new_secret(), "nonsense", ""):
        gate.status(sent)
    for worker in gate.workers():
        gate.kill_worker(worker)
    wait_for(lambda: gate.answers())
    after = metrics(gate)
    grown = {name[25:-2]: after[name] - before[name] for name in after if name.startswith("gate_calls_total{")}
    assert {name: grown[name] for name in ("accepted", "deleted", "unknown", "malformed", "unavailable")} == {
        "accepted": 3,
        "deleted": 1,
        "unknown": 1,
        "malformed": 1,
        "unavailable": 0,
    }
    assert grown["missing"] >= 2 and grown["other"] >= 1
    assert after["gate_call_seconds_count"] == after['gate_call_seconds_bucket{le="+Inf"}'] > 8
    assert 0 < after["gate_call_seconds_sum"] < 60


def test_its_metrics_tell_how_far_counting_lags(tmp_path: Path, transactional_db: None) -> None:
    secret = new_key()[1]
    with Gate(tmp_path, METERING_SECONDS="60") as gate:
        gone = tmp_path / "metering" / "0-0.calls"
        gone.symlink_to("folded-meanwhile")
        assert metrics(gate)["gate_metering_files"] == metrics(gate)["gate_metering_lag_seconds"] == 0
        gone.unlink()
        gate.status(secret)
        wait_for(lambda: metrics(gate)["gate_metering_lag_seconds"] > 0)
        assert metrics(gate)["gate_metering_files"] == 1
    assert not (tmp_path / "metering").exists() or not [*(tmp_path / "metering").iterdir()]


NOT_FOUND = b"GET / HTTP/1.1\r\nHost: gate\r\n\r\n"


def send_until_it_stands(gate: Gate, caller: socket.socket) -> int:
    """Calls, and no answer is taken; how many bytes of them there was room for."""
    sent = 0
    with pytest.raises(TimeoutError):
        while sent < 64 << 20:
            sent += caller.send((NOT_FOUND * 1000)[sent % len(NOT_FOUND) :])
    assert gate.status("") == 401
    return sent


def test_a_caller_who_takes_no_answers_is_not_read_on(gate: Gate) -> None:
    with socket.create_connection(("127.0.0.1", gate.port), timeout=1) as slow:
        calls = send_until_it_stands(gate, slow) // len(NOT_FOUND)
        answers, rest = 0, b""
        while answers < calls:
            part = rest + slow.recv(1 << 20)
            answers += part.count(b"HTTP/1.1 404")
            rest = part[-11:]
    assert answers == calls


def test_a_caller_who_never_takes_them_is_cut_off(gate: Gate) -> None:
    with socket.create_connection(("127.0.0.1", gate.port), timeout=1) as greedy:
        send_until_it_stands(gate, greedy)
        wait_for(lambda: broken(greedy))


def test_after_noise_a_caller_is_cut_off(gate: Gate) -> None:
    with socket.create_connection(("127.0.0.1", gate.port), timeout=1) as noisy:
        noisy.sendall(b"nonsense\r\n\r\n")
        assert noisy.recv(65536).startswith(b"HTTP/1.1 400") and noisy.recv(65536) == b""
        wait_for(lambda: broken(noisy))


def broken(caller: socket.socket) -> bool:
    """Whether the connection was closed against what it still sends."""
    try:
        caller.send(b"x")
    except TimeoutError:
        return False
    except OSError:
        return True
    return False


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
        many = [
            held.enter_context(socket.create_connection(("127.0.0.1", gate.port), timeout=20))
            for _ in range(RESERVED_FILES)
        ]
        wait_for(lambda: any(map(broken, many)))
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


@contextlib.contextmanager
def hanging_database() -> Iterator[None]:
    """PostgreSQL's processes that the gate asks stand still."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = %s AND query LIKE '%%ANY(%%' AND pid <> pg_backend_pid()",
            [connection.settings_dict["NAME"]],
        )
        backends = [row[0] for row in cursor.fetchall()]
    assert backends
    for backend in backends:
        os.kill(backend, signal.SIGSTOP)
    try:
        yield
    finally:
        for backend in backends:
            os.kill(backend, signal.SIGCONT)


@only_postgres
def test_a_database_that_hangs_is_not_waited_for(gate: Gate) -> None:
    secret = new_key()[1]
    assert gate.status(secret) == 200
    with hanging_database():
        wait_for(lambda: gate.status(secret) == 503)
        wait_for(lambda: {gate.status(secret) for _ in range(4)} == {200})  # over new connections


@only_postgres
def test_a_question_longer_than_the_sockets_buffer_is_asked_whole(transactional_db: None) -> None:
    key, secret = new_key()
    digests = settings.VAULT.digests("api-key", secret)
    answers: list[Answer] = []

    async def ask() -> None:
        lookup = PostgresLookup(database_url())
        await lookup.open()
        with socket.socket(fileno=os.dup(lookup.socket)) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        for _ in range(20_000):
            lookup.find(digests, answers.append)
        while len(answers) < 20_000:
            await asyncio.sleep(0.01)
        lookup.close()

    asyncio.run(ask())
    assert {answer.key_id for answer in answers if isinstance(answer, Found)} == {key.id.bytes}
    assert not [answer for answer in answers if not isinstance(answer, Found)]


@only_postgres
def test_a_question_that_cannot_be_sent_is_answered_unavailable(transactional_db: None) -> None:
    answers: list[Answer] = []

    async def ask() -> None:
        lookup = PostgresLookup(database_url())
        await lookup.open()
        assert lookup.connection
        lookup.connection.close()
        lookup.find([b"x" * 32], answers.append)
        while not answers:
            await asyncio.sleep(0)
        lookup.close()

    asyncio.run(asyncio.wait_for(ask(), 20))
    assert answers == [UNAVAILABLE]


@only_postgres
def test_calls_that_come_while_one_waits_are_answered_in_turn(tmp_path: Path, transactional_db: None) -> None:
    secret = new_key()[1]
    good = b"GET /verify HTTP/1.1\r\nHost: gate\r\n" + TOKEN + secret.encode() + b"\r\n\r\n"
    last = b"GET /verify HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n"
    with Gate(tmp_path, workers=1) as gate, contextlib.ExitStack() as held:
        assert gate.status(secret) == 200

        def connected() -> socket.socket:
            return held.enter_context(socket.create_connection(("127.0.0.1", gate.port), timeout=20))

        def send(caller: socket.socket, request: bytes) -> None:
            """Until the worker has it: it answers another, who came later and needs no database."""
            caller.sendall(request)
            assert gate.status("") == 401

        patient, hasty, noisy = connected(), connected(), connected()
        with hanging_database():
            send(patient, good)
            send(patient, good)
            send(patient, last)
            send(noisy, good)
            send(noisy, b"nonsense\r\n\r\n")
            send(hasty, good)
            hasty.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            hasty.close()
            assert gate.status("") == 401
        for caller, statuses in ((patient, [b"200", b"200", b"401"]), (noisy, [b"200", b"400"])):
            received = b""
            while part := caller.recv(65536):
                received += part
            assert re.findall(rb"HTTP/1.1 (\d+)", received) == statuses
        assert gate.status(secret) == 200


def test_a_worker_told_to_stop_answers_who_is_there(gate: Gate) -> None:
    secret = new_key()[1].encode()
    call = b"GET /verify HTTP/1.1\r\nHost: gate\r\n" + TOKEN + secret + b"\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gate.port), timeout=20) as idle:
        idle.sendall(call)
        assert idle.recv(65536).startswith(b"HTTP/1.1 200")
        gate.master.terminate()
        assert idle.recv(65536) == b""
    assert gate.master.wait(20) == 0
