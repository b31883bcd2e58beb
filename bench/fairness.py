"""Does a rude caller slow down the others? A bystander's calls are timed beside callers of each kind.

    make fairness

Each row has a gate of its own: two workers, SQLite. The bystander sends one call after the other over four connections
in turn. Promised are a 99th percentile of at most 50 ms beside each of them, and that new connections spread over the
workers within a fifth of even.
"""

import argparse
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.databases import environment_of, fill
from tests.support.servers import ROOT, free_port
from tests.support.sockets import children, connections, wait_until_all_accept
from tests.support.waiting import wait_for

PROMISED_MS = 50.0
PROMISED_SPREAD = 0.2
KINDS = {
    "": "nobody",
    "pipeline": "4 that pipeline calls without end",
    "small": "4 that pipeline the smallest calls there are",
    "never_read": "20 that never read",
    "idle": "4,000 that are idle",
}
GUNICORN = [sys.executable, "-m", "gunicorn", "--no-control-socket", "--log-level", "error"]
GATE = ["-c", "python:apikeys.gate.gunicorn_conf", "apikeys.gate.main:gate"]


@contextlib.contextmanager
def serving(environment: dict[str, str]) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A gate on that database: its port, and its master process."""
    port = free_port()
    command = [*GUNICORN, "-b", f"127.0.0.1:{port}", *GATE]
    master = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment | {"GATE_WORKERS": "2"})
    try:
        wait_for(lambda: listens(port))
        wait_until_all_accept(port, master.pid, workers=2)
        yield port, master
    finally:
        master.terminate()
        master.wait(60)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def rude(kind: str, port: int, keys: Path) -> Iterator[None]:
    if not kind:
        yield
        return
    command = [sys.executable, "-m", "bench.rude", kind, str(port), str(keys)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout and process.stdout.readline() == b"ready\n", f"{kind} did not start"
        yield
    finally:
        process.kill()
        process.wait()


def call(caller: socket.socket, request: bytes) -> float:
    """Milliseconds to the answer, which is empty and accepts the key."""
    began = time.perf_counter()
    caller.sendall(request)
    received = b""
    while not received.endswith(b"\r\n\r\n"):
        part = caller.recv(65536)
        assert part, "the gate has closed the connection"
        received += part
    assert received.startswith(b"HTTP/1.1 200"), received
    return (time.perf_counter() - began) * 1000


def bystander(port: int, keys: Path, seconds: float) -> list[float]:
    """The times of its calls, in milliseconds."""
    request = f"GET /verify HTTP/1.1\r\nHost: gate\r\ndashvector-auth-token: {keys.read_text().split()[1]}\r\n\r\n"
    with contextlib.ExitStack() as held:
        callers = [held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60)) for _ in range(4)]
        times: list[float] = []
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            times += [call(caller, request.encode()) for caller in callers]
        return times


def spread(port: int, master: int, count: int, at_once: bool) -> float:
    """How far the busiest worker is above an even share of so many new connections, as a part of that share."""
    with contextlib.ExitStack() as held:
        for _ in range(count):
            caller = held.enter_context(socket.socket())
            caller.setblocking(not at_once)
            caller.connect_ex(("127.0.0.1", port))
            if not at_once:
                time.sleep(0.002)
        wait_for(lambda: sum(connections(pid, port) for pid in children(master)) == count)
        shares = [connections(pid, port) for pid in children(master)]
    return max(shares) / (count / len(shares)) - 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10, help="of each row")
    words = parser.parse_args()
    broken = False
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        environment = environment_of(Path(folder) / "data")
        keys = Path(folder) / "keys"
        fill(environment, 3, keys)
        print("| beside | calls | p50 ms | p99 ms | longest ms |\n|---|---|---|---|---|", flush=True)
        for kind, title in KINDS.items():
            with serving(environment) as (port, _), rude(kind, port, keys):
                times = sorted(bystander(port, keys, words.seconds))
            p99 = times[len(times) * 99 // 100]
            broken |= p99 > PROMISED_MS
            print(
                f"| {title} | {len(times):,} | {statistics.median(times):.2f} | {p99:.2f} | {times[-1]:.1f} |",
                flush=True,
            )
        print("\n| new connections | busiest worker above an even share |\n|---|---|")
        for title, count, at_once in (("400 at once", 400, True), ("400 one after the other", 400, False)):
            with serving(environment) as (port, master):
                share = spread(port, master.pid, count, at_once)
            broken |= share > PROMISED_SPREAD
            print(f"| {title} | {share:.0%} |", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
