"""A caller of the gate holds up no other, however it calls; bench.fairness has the times."""

import contextlib
import os
import re
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.support.gates import Gate
from tests.support.sockets import connections, wait_until_all_accept
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]
NOT_FOUND = b"GET / HTTP/1.1\r\nHost: gate\r\n\r\n"
METRICS = b"GET /metrics HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n"


def connected(gate: Gate) -> socket.socket:
    return socket.create_connection(("127.0.0.1", gate.port), timeout=20)


def test_a_caller_that_pipelines_waits_for_the_others(tmp_path: Path, transactional_db: None) -> None:
    """Thousands of its calls have arrived when another's arrives, which says how many were answered before it."""
    with Gate(tmp_path, workers=1) as gate, contextlib.ExitStack() as held:
        (worker,) = gate.workers()
        pipelining, others = (
            held.enter_context(connected(gate)),
            [held.enter_context(connected(gate)) for _ in range(5)],
        )
        wait_for(lambda: connections(worker, gate.port) == 6)
        os.kill(worker, signal.SIGSTOP)
        pipelining.sendall(NOT_FOUND * 5000)
        for other in others:
            other.sendall(METRICS)
        os.kill(worker, signal.SIGCONT)
        for other in others:
            received = b""
            while part := other.recv(65536):
                received += part
            answered = re.search(rb'gate_calls_total\{answer="other"\} (\d+)', received)
            assert answered and int(answered[1]) < 100, answered
        received = b""
        while received.count(b"HTTP/1.1 404") < 5000:
            received += pipelining.recv(1 << 20)


@pytest.mark.parametrize("pause", [0, 0.002], ids=["at once", "one after the other"])
def test_new_connections_spread_over_the_workers(tmp_path: Path, transactional_db: None, pause: float) -> None:
    with Gate(tmp_path, workers=2) as gate, contextlib.ExitStack() as held:
        wait_until_all_accept(gate.port, gate.master.pid, workers=2)
        for _ in range(200):
            caller = held.enter_context(socket.socket())
            caller.setblocking(bool(pause))
            caller.connect_ex(("127.0.0.1", gate.port))
            time.sleep(pause)
        wait_for(lambda: sum(connections(pid, gate.port) for pid in gate.workers()) == 200)
        assert all(80 <= connections(pid, gate.port) <= 120 for pid in gate.workers())


def test_a_worker_that_hangs_keeps_no_connection_waiting(tmp_path: Path, transactional_db: None) -> None:
    with Gate(tmp_path, workers=2) as gate:
        wait_until_all_accept(gate.port, gate.master.pid, workers=2)
        hanging, _ = gate.workers()
        os.kill(hanging, signal.SIGSTOP)
        try:
            assert {gate.status("") for _ in range(50)} == {401}
        finally:
            os.kill(hanging, signal.SIGCONT)


def test_a_worker_started_later_takes_its_share(tmp_path: Path, transactional_db: None) -> None:
    with Gate(tmp_path, workers=2) as gate, contextlib.ExitStack() as held:
        wait_until_all_accept(gate.port, gate.master.pid, workers=2)
        first = gate.workers()
        gate.kill_worker(first[0])
        wait_for(lambda: len(gate.workers()) == 2 and first[0] not in gate.workers())
        wait_until_all_accept(gate.port, gate.master.pid, workers=2)
        for _ in range(100):
            held.enter_context(connected(gate))
        wait_for(lambda: sum(connections(pid, gate.port) for pid in gate.workers()) == 100)
        assert all(40 <= connections(pid, gate.port) <= 60 for pid in gate.workers())
