"""What a supervisor or a load balancer asks the gate."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gates import Gate, GateInProcess, table_gone
from tests.support.waiting import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def gate_in_process(tmp_path: Path, transactional_db: None) -> Iterator[GateInProcess]:
    with GateInProcess(tmp_path) as gate:
        yield gate


def probe(gate: Gate | GateInProcess, path: bytes) -> tuple[int, bytes]:
    status, headers, body = gate.ask(path=path)
    assert headers["content-type"] == "text/plain; charset=utf-8"
    return status, body


def test_it_is_alive_and_ready(gate_in_process: GateInProcess) -> None:
    assert probe(gate_in_process, b"/healthz") == probe(gate_in_process, b"/readyz?x") == (200, b"ok\n")
    assert gate_in_process.ask(path=b"/HEALTHZ")[0] == 404


def test_without_its_table_it_is_alive_and_not_ready(gate_in_process: GateInProcess) -> None:
    with table_gone():
        assert probe(gate_in_process, b"/readyz") == (503, b"the database cannot be queried\n")
        assert probe(gate_in_process, b"/healthz") == (200, b"ok\n")
    wait_for(lambda: probe(gate_in_process, b"/readyz") == (200, b"ok\n"))


def test_where_it_cannot_count_it_is_not_ready(gate_in_process: GateInProcess) -> None:
    folder = gate_in_process.configuration.metering_dir
    folder.rmdir()
    assert probe(gate_in_process, b"/readyz") == (503, b"calls cannot be counted\n")
    folder.mkdir()
    assert probe(gate_in_process, b"/readyz") == (200, b"ok\n")
    assert not [*folder.iterdir()]


@pytest.mark.no_mutants
def test_any_host_is_answered(gate: Gate) -> None:
    for path in (b"/healthz", b"/readyz"):
        request = b"GET %b HTTP/1.1\r\nHost: 10.0.0.7\r\nConnection: close\r\n\r\n" % path
        assert gate.send(request).startswith(b"HTTP/1.1 200 OK\r\n")
