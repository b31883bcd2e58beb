"""The gate's HTTP, and what slow, greedy and many callers do to it."""

import contextlib
import os
import re
import resource
import signal
import socket
import struct
from pathlib import Path

import pytest

from apikeys.gate.worker import RESERVED_FILES
from tests.support.gates import TOKEN, Gate, new_key
from tests.support.waiting import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


def test_it_speaks_http(gate: Gate) -> None:
    secret = new_key()[1].encode()
    call = b"GET /verify HTTP/1.1\r\nHost: gate\r\n" + TOKEN + secret + b"\r\n"
    pipelined = gate.send((call + b"\r\n") * 3 + call + b"Connection: close\r\n\r\n")
    assert pipelined.count(b"HTTP/1.1 200 OK") == pipelined.count(b"cache-control: no-store") == 4
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
    asked_later = gate.send(call + b"\r\n" + with_body + b"\r\nExpect: 100-continue\r\n\r\nabc")
    assert re.findall(rb"HTTP/1.1 (\d+)", asked_later) == [b"200", b"200"]
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
    assert gate.ask(TOKEN + secret[:20] + b"\0" + secret[20:])[0] == 400
    assert gate.ask(b"x: " + b"y" * 40_000, TOKEN + secret)[0] == 431
    assert gate.ask(*[b"a:"] * 97, TOKEN + secret)[0] == 200  # and Host and Connection
    assert gate.ask(*[b"a:"] * 98, TOKEN + secret)[0] == 431
    with socket.create_connection(("127.0.0.1", gate.port), timeout=20) as slow:
        for part in (call[:10], call[10:40], call[40:] + b"Connection: close\r\n", b"\r\n"):
            slow.sendall(part)
        assert slow.recv(12) == b"HTTP/1.1 200"


ENDLESS = {
    "URL": b"GET /",
    "name of a header": b"GET /verify HTTP/1.1\r\n",
    "header": b"GET /verify HTTP/1.1\r\nX: ",
    "trailer": b"POST /verify HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX: ",
}
CALLERS, MEGABYTE = 100, 1 << 20


def memory(pids: list[int]) -> int:
    """What these processes hold, in bytes."""
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids]
    return sum(pages) * resource.getpagesize()


@pytest.mark.parametrize("part", ENDLESS)
def test_what_does_not_end_is_not_kept(gate: Gate, part: str) -> None:
    before = memory(gate.workers())

    def grown() -> bool:
        return memory(gate.workers()) - before > CALLERS * MEGABYTE // 4

    with contextlib.ExitStack() as held:
        callers = []
        for _ in range(CALLERS):
            caller = held.enter_context(socket.create_connection(("127.0.0.1", gate.port), timeout=20))
            callers.append(caller)
            with contextlib.suppress(ConnectionError):  # cut off
                caller.sendall(ENDLESS[part] + b"x" * MEGABYTE)
        wait_for(lambda: grown() or not any(map(unanswered, callers)))
        assert not grown()
    assert gate.send(ENDLESS[part] + b"x" * 50_000).startswith(b"HTTP/1.1 431")


def unanswered(caller: socket.socket) -> bool:
    try:
        caller.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return True
    except ConnectionError:
        pass  # cut off
    return False


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 3\r\nContent-Length: 4\r\n",
        b"Transfer-Encoding: xchunked\r\n",
    ],
)
def test_a_call_that_a_proxy_may_end_elsewhere_is_refused(gate: Gate, framing: bytes) -> None:
    smuggled = b"0\r\n\r\nGET /verify HTTP/1.1\r\nHost: gate\r\n\r\n"
    answers = gate.send(b"POST /verify HTTP/1.1\r\nHost: gate\r\n" + framing + b"\r\n" + smuggled)
    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"400"]


NOT_FOUND = b"GET / HTTP/1.1\r\nHost: gate\r\n\r\n"


def send_until_blocked(gate: Gate, caller: socket.socket) -> int:
    """Send calls and read no answer; how many bytes were accepted."""
    sent = 0
    with pytest.raises(TimeoutError):
        while sent < 64 << 20:
            sent += caller.send((NOT_FOUND * 1000)[sent % len(NOT_FOUND) :])
    assert gate.status("") == 401
    return sent


def test_a_caller_that_reads_no_answers_is_not_read_from(gate: Gate) -> None:
    with socket.create_connection(("127.0.0.1", gate.port), timeout=1) as slow:
        calls = send_until_blocked(gate, slow) // len(NOT_FOUND)
        answers, rest = 0, b""
        while answers < calls:
            part = rest + slow.recv(1 << 20)
            answers += part.count(b"HTTP/1.1 404")
            rest = part[-11:]
    assert answers == calls


def test_a_caller_that_never_reads_is_disconnected(gate: Gate) -> None:
    with socket.create_connection(("127.0.0.1", gate.port), timeout=1) as greedy:
        send_until_blocked(gate, greedy)
        wait_for(lambda: broken(greedy))


def test_a_caller_that_leaves_is_not_answered_on(gate: Gate) -> None:
    with socket.create_connection(("127.0.0.1", gate.port), timeout=20) as leaving:
        leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing resets it
        leaving.sendall(NOT_FOUND * 20_000)
    answered = re.search(rb'gate_calls_total\{answer="other"\} (\d+)', gate.ask(path=b"/metrics")[2])
    assert answered and int(answered[1]) < 20_000


def test_an_idle_connection_stays_open(gate: Gate) -> None:
    def date() -> str:
        return gate.ask()[1]["date"]

    with socket.create_connection(("127.0.0.1", gate.port), timeout=20) as idle:
        for _ in range(3):
            before = date()
            wait_for(lambda: date() != before)  # noqa: B023
            idle.sendall(NOT_FOUND)
            assert idle.recv(65536).startswith(b"HTTP/1.1 404")


def test_after_invalid_data_a_caller_is_disconnected(gate: Gate) -> None:
    with socket.create_connection(("127.0.0.1", gate.port), timeout=1) as noisy:
        noisy.sendall(b"nonsense\r\n\r\n")
        assert noisy.recv(65536).startswith(b"HTTP/1.1 400") and noisy.recv(65536) == b""
        wait_for(lambda: broken(noisy))


def broken(caller: socket.socket) -> bool:
    """Whether the other side has closed the connection."""
    try:
        caller.send(b"x")
    except TimeoutError:
        return False
    except OSError:
        return True
    return False


def test_a_call_that_never_completes_is_ended(gate: Gate) -> None:
    assert gate.send(b"GET /verify HTTP/1.1\r\nHost: ").startswith(b"HTTP/1.1 408")


def test_past_its_connections_a_worker_answers_503(
    tmp_path: Path, transactional_db: None, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = new_key()[1]
    with Gate(tmp_path, workers=1, GATE_MAX_CONNECTIONS="2") as gate, contextlib.ExitStack() as held:
        for _ in range(2):
            idle = held.enter_context(socket.create_connection(("127.0.0.1", gate.port), timeout=20))
            idle.sendall(b"GET /verify HTTP/1.1\r\nHost: gate\r\n\r\n")
            assert idle.recv(12) == b"HTTP/1.1 401"
        assert gate.status(secret) == 503
        assert (
            "Calls are answered 503: more than 2 connections at once (GATE_MAX_CONNECTIONS)" in capfd.readouterr().out
        )
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


def test_a_worker_that_stops_answers_open_connections(gate: Gate) -> None:
    secret = new_key()[1].encode()
    call = b"GET /verify HTTP/1.1\r\nHost: gate\r\n" + TOKEN + secret + b"\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gate.port), timeout=20) as idle:
        idle.sendall(call)
        assert idle.recv(65536).startswith(b"HTTP/1.1 200")
        gate.master.terminate()
        assert idle.recv(65536) == b""
    assert gate.master.wait(20) == 0


def test_a_worker_that_stops_accepts_connections_that_wait(tmp_path: Path, transactional_db: None) -> None:
    secret = new_key()[1].encode()
    call = b"GET /verify HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n" + TOKEN + secret + b"\r\n\r\n"
    with Gate(tmp_path, workers=1) as gate, contextlib.ExitStack() as held:
        assert gate.answers()
        (worker,) = gate.workers()
        os.kill(worker, signal.SIGSTOP)
        many = [held.enter_context(socket.create_connection(("127.0.0.1", gate.port), timeout=20)) for _ in range(60)]
        for caller in many:
            caller.sendall(call)
        before = sockets(gate.master.pid)
        gate.master.terminate()
        wait_for(lambda: sockets(gate.master.pid) < before)  # only the worker listens
        os.kill(worker, signal.SIGTERM)
        os.kill(worker, signal.SIGCONT)
        assert [caller.recv(12) for caller in many] == [b"HTTP/1.1 200"] * 60


def sockets(pid: int) -> int:
    """The number of open sockets of that process."""
    count = 0
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += os.readlink(file).startswith("socket:")
    return count


def test_a_worker_that_is_stopped_as_it_is_forked_stops(tmp_path: Path, transactional_db: None) -> None:
    with Gate(tmp_path, workers=1, configuration="tests.support.first_worker_stops") as gate:
        first = int((tmp_path / "first").read_text())
        wait_for(lambda: gate.answers() and gate.workers() and first not in gate.workers())
