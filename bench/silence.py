"""What does the console do while PostgreSQL stands still, or a proxy before it passes nothing on?

make silence     how long 18 requests at once, /healthz and the recovery take, and a stop of each program
"""

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import httpx

from tests.support.nginx import listens
from tests.support.person import Person, wait_for
from tests.support.postgres import postgres, postgres_folder
from tests.support.servers import AS_INSTALLED, ROOT, Server, free_port, running
from tests.support.silence import Proxy, stopped

REQUESTS = 18
WORK_SECONDS = 6  # for a background program to begin its work


def asked(url: str, cookies: dict[str, str]) -> tuple[float, int]:
    """How long it took, and the status."""
    began = time.monotonic()
    status = httpx.get(url, cookies=cookies, timeout=120).status_code
    return time.monotonic() - began, status


def pages(server: Server, cookies: dict[str, str], silence: AbstractContextManager[None]) -> dict[str, float]:
    url = f"{server.address}/api-keys/"
    with ThreadPoolExecutor(REQUESTS) as threads:
        with silence:
            requests = [threads.submit(asked, url, cookies) for _ in range(REQUESTS)]
            time.sleep(0.5)  # they wait
            healthz, _ = asked(f"{server.address}/healthz", {})
            answers = [request.result() for request in requests]
            assert {status for _, status in answers} == {503}
            next_page, _ = asked(url, cookies)
        began = time.monotonic()
        wait_for(lambda: all(asked(url, cookies)[1] == 200 for _ in range(REQUESTS)), 120)
    return {
        "longest page": max(seconds for seconds, _ in answers),
        "page after that": next_page,
        "/healthz": healthz,
        "recovery": time.monotonic() - began,
    }


@contextlib.contextmanager
def program(server: Server, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, *words]
    process = subprocess.Popen(command, cwd=ROOT, env=server.environment, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def stops(server: Server, cookies: dict[str, str], silence: AbstractContextManager[None]) -> dict[str, float]:
    """From SIGTERM to the end of each program, all in the midst of their work."""
    took: dict[str, float] = {}
    port = free_port()
    gunicorn = ["-m", "gunicorn", "-c", "python:console.gunicorn_conf", "-b", f"127.0.0.1:{port}", "console.wsgi"]
    words = {"console": gunicorn, "meter": ["manage.py", "meter"], "housekeep": ["manage.py", "housekeep"]}
    with contextlib.ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(REQUESTS))
        processes = {name: stack.enter_context(program(server, *each)) for name, each in words.items()}
        wait_for(lambda: listens(port))
        with silence:
            time.sleep(WORK_SECONDS)
            for _ in range(REQUESTS):
                threads.submit(asked, f"http://127.0.0.1:{port}/api-keys/", cookies)
            time.sleep(0.5)
            for process in processes.values():
                process.terminate()
            began = time.monotonic()
            while len(took) < len(processes):
                for name, process in processes.items():
                    if process.poll() is not None:
                        took.setdefault(f"stop of {name}", time.monotonic() - began)
                time.sleep(0.01)
    return took


def main() -> int:
    programs = postgres_folder()
    if not programs:
        print("PostgreSQL is missing (Debian's package postgresql).")
        return 1
    with (
        tempfile.TemporaryDirectory() as folder,
        postgres(programs) as address,
        Proxy(address) as proxy,
        running(Path(folder) / "data", DATABASE_URL=proxy.address, **AS_INSTALLED) as server,
        Person(server.address) as owner,
    ):
        owner.log_on()
        cookies = dict(owner.http.cookies)
        silences: dict[str, Callable[[], AbstractContextManager[None]]]
        silences = {"stopped": lambda: stopped(address), "swallowed": proxy.silent}
        for name, silence in silences.items():
            figures = pages(server, cookies, silence()) | stops(server, cookies, silence())
            print(f"{name:10}", ", ".join(f"{what} {seconds:.2f} s" for what, seconds in figures.items()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
