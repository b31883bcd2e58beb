"""Rude callers for bench.fairness: `python -m bench.rude KIND PORT FILE`, with a key in that file.

They go on until they are ended. It prints `ready` when they are at work.
"""

import contextlib
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

CHUNK = 64 << 10


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def repeat(work: Callable[[int, bytes], None], port: int, calls: bytes) -> None:
    """Again after each time that the gate cuts it off."""
    while True:
        with contextlib.suppress(OSError):
            work(port, calls)
        time.sleep(0.1)


def pipeline(port: int, calls: bytes) -> None:
    """Sends calls without waiting for answers, and takes the answers."""
    with connected(port) as caller:

        def take() -> None:
            with contextlib.suppress(OSError):
                while caller.recv(1 << 20):
                    pass

        threading.Thread(target=take, daemon=True).start()
        while True:
            caller.sendall(calls)


def never_read(port: int, calls: bytes) -> None:
    """Sends calls, and takes no answer."""
    with connected(port) as caller:
        caller.settimeout(None)
        while True:
            caller.sendall(calls)


def idle(port: int, count: int) -> list[socket.socket]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return [connected(port) for _ in range(count)]


def main(kind: str, port: int, keys: Path) -> None:
    call = f"GET /verify HTTP/1.1\r\nHost: gate\r\ndashvector-auth-token: {keys.read_text().split()[0]}\r\n\r\n"
    calls = call.encode() * (CHUNK // len(call))
    held = idle(port, 4000) if kind == "idle" else []
    if not held:
        work, count = {"pipeline": (pipeline, 4), "small": (pipeline, 4), "never_read": (never_read, 20)}[kind]
        if kind == "small":
            calls = b"GET / HTTP/1.1\r\n\r\n" * (CHUNK // 18)
        for _ in range(count):
            threading.Thread(target=repeat, args=(work, port, calls), daemon=True).start()
        time.sleep(1)
    print("ready", flush=True)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
