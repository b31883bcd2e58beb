"""What the gate does while its database is gone, hangs, or answers in parts."""

import contextlib
import json
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from django.db import connection

from apikeys.keys import format as keyformat
from tests.support.gates import TOKEN, Gate, GateInProcess, database_url, hanging_database, new_key, refusal, table_gone
from tests.support.waiting import wait_for
from tests.support.world import only_postgres

pytestmark = pytest.mark.django_db(transaction=True)


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


@pytest.mark.no_mutants
def test_it_fails_closed_while_its_database_is_gone_and_recovers(gate: Gate) -> None:
    secret = new_key()[1]
    assert gate.status(secret) == 200
    with database_gone(gate.environment["DATABASE_URL"]):
        wait_for(lambda: {gate.status(secret) for _ in range(10)} == {503})  # each worker has noticed
        status, headers, body = gate.ask(TOKEN + secret.encode())
        assert status == 503 and json.loads(body)["code"] == 503 and headers["retry-after"] == "1"
        assert refusal(gate.ask()) == "missing"
    wait_for(lambda: gate.status(secret) == 200)


def test_what_it_says_and_logs_without_its_database(
    tmp_path: Path, transactional_db: None, caplog: pytest.LogCaptureFixture
) -> None:
    secret = new_key()[1]
    with GateInProcess(tmp_path) as gate:
        with database_gone(database_url()):
            for _ in range(3):
                status, headers, body = gate.ask(TOKEN + secret.encode())
                assert (status, headers) == (503, {"content-type": "application/json", "retry-after": "1"})
                said = json.loads(body)
                assert (said["code"], said["message"]) == (503, "API keys cannot be checked at the moment. Try again.")
        assert gate.ask()[0] == 401
    (record,) = caplog.records  # not one for each call
    assert record.levelname == "ERROR" and record.name == "apikeys.gate.app"
    said, why = record.getMessage().split(": ", 1)
    assert said == "Calls are answered 503"
    assert why.partition(" or ")[0] in (
        "[Errno 2] No such file",
        "The connection to PostgreSQL was lost.",
        "terminating connection due to administrator command",  # where the question was sent before that was noticed
    )


@pytest.mark.no_mutants
def test_before_its_migrations_it_accepts_nothing(tmp_path: Path, transactional_db: None) -> None:
    address = database_url()
    if connection.vendor == "sqlite":
        address = f"sqlite:///{tmp_path}/empty.sqlite3"
        (tmp_path / "empty.sqlite3").touch()
    else:
        address = address.rpartition("/")[0] + "/postgres"
    with Gate(tmp_path, DATABASE_URL=address) as gate:
        assert gate.status(keyformat.new_secret()) == 503


@pytest.mark.no_mutants
def test_while_its_table_is_gone_it_accepts_nothing(gate: Gate) -> None:
    secret = new_key()[1]
    assert gate.status(secret) == 200
    with table_gone():
        wait_for(lambda: {gate.status(secret) for _ in range(10)} == {503})
    wait_for(lambda: {gate.status(secret) for _ in range(10)} == {200})


@only_postgres
@pytest.mark.no_mutants
def test_a_database_that_hangs_is_not_waited_for(gate: Gate) -> None:
    secret = new_key()[1]
    assert gate.status(secret) == 200
    with hanging_database():
        wait_for(lambda: gate.status(secret) == 503)
        wait_for(lambda: {gate.status(secret) for _ in range(4)} == {200})  # over new connections


@only_postgres
@pytest.mark.no_mutants
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
