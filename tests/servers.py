"""The product as `make run` starts it, on ports and in a folder of the test's own."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from tests.person import PASSWORD

ROOT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """`python -m console.start`, as a process."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        kept = {name: value for name, value in os.environ.items() if name.startswith(("PATH", "COVERAGE", "HOME"))}
        self.environment = {
            **kept,
            "CONSOLE_DATA_DIR": str(folder),
            "CONSOLE_ROOT_PASSWORD": PASSWORD,
            "PORT": str(self.port),
            **environment,
        }

    def start(self) -> str:
        """Until it serves; what it printed by then."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "console.start"],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        printed = ""
        for line in self.process.stdout:
            printed += line
            if line.startswith("Account:"):
                break
        return printed

    def stop(self, sign: int = signal.SIGTERM) -> tuple[int, str, str]:
        """End it; its status and what it printed since."""
        self.process.send_signal(sign)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@contextlib.contextmanager
def database_address() -> Iterator[dict[str, str]]:
    """The environment that names a database of its own: in PostgreSQL where the tests run on it, else the default."""
    address = os.environ.get("DATABASE_URL")
    if not address:
        yield {}
        return
    name = f"server_{free_port()}_{os.getpid()}"
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    try:
        yield {"DATABASE_URL": urlsplit(address)._replace(path=f"/{name}").geturl()}
    finally:
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@contextlib.contextmanager
def running(folder: Path, **environment: str) -> Iterator[Server]:
    with database_address() as database:
        server = Server(folder, **database | environment)
        server.start()
        try:
            yield server
        finally:
            server.stop()
