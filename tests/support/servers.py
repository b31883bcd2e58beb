"""The product as `make run` starts it, on ports and in a folder of the test's own."""

import contextlib
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from tests.support.waiting import wait_for

PASSWORD = "correct horse battery staple"  # of root, and of whoever else a test logs on
ROOT = Path(__file__).resolve().parent.parent.parent


def free_port() -> int:
    """Below those that the system gives to outgoing connections: none of these takes it before it is listened on."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def installed(name: str, requirements: Path) -> str:
    """The Python of a virtual environment of that name beside ours, which has these packages and no other."""
    folder = ROOT / name
    python, made = folder / "bin" / "python", folder / "made-from"
    if not made.exists() or made.read_text() != requirements.read_text():
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([*install, "-r", str(requirements)], check=True)
        made.write_text(requirements.read_text())
    return str(python)


@contextlib.contextmanager
def as_another_user() -> Iterator[int]:
    """Where this one is root, who may do anything. Its id."""
    user = os.geteuid() or 65534
    os.seteuid(user)
    try:
        yield user
    finally:
        os.seteuid(os.getuid())


AS_INSTALLED = {"CONSOLE_WORKERS": "2", "GATE_WORKERS": "2"}  # what `make run` has by default


class Server:
    """`python -m console.start`, as a process."""

    def __init__(self, folder: Path, **environment: str) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.output, self.errors = folder.with_suffix(".out"), folder.with_suffix(".err")
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.gate_port = free_port()
        kept = {name: value for name, value in os.environ.items() if name.startswith(("PATH", "COVERAGE", "HOME"))}
        self.environment = {
            **kept,
            "CONSOLE_DATA_DIR": str(folder),
            "CONSOLE_ROOT_PASSWORD": PASSWORD,
            "PORT": str(self.port),
            "GATE_PORT": str(self.gate_port),
            "METERING_SECONDS": "0.2",
            "CONSOLE_WORKERS": "1",  # more take longer to start, and few tests need them
            "GATE_WORKERS": "1",
            **environment,
        }

    def start(self) -> str:
        """Until it serves; what it printed by then."""
        self.run()
        self.wait_until_serving()
        return self.output.read_text()

    def run(self) -> None:
        """In a process group of its own."""
        command = [sys.executable, "-m", "console.start"]
        with self.output.open("w") as out, self.errors.open("w") as err:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=self.environment, stdout=out, stderr=err, process_group=0
            )
        self.known = {self.process.pid}

    def wait_until_serving(self) -> None:
        wait_for(lambda: "Account:" in self.output.read_text() or self.process.poll() is not None, 90)
        assert self.process.returncode is None, self.errors.read_text()

    def processes(self) -> set[int]:
        """It and all that it started which live, as far as this was called while their parents did."""
        stats = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                state, parent = stat.read_text().rpartition(")")[2].split()[:2]
                stats[int(stat.parent.name)] = state, int(parent)
        before: set[int] = set()
        while before != self.known:
            before = self.known
            self.known = before | {pid for pid, (_, parent) in stats.items() if parent in before}
        return {pid for pid in self.known if pid in stats and stats[pid][0] != "Z"}

    def execute(self, query: str) -> list[tuple[object, ...]]:
        """On its database, by its driver alone."""
        if url := self.environment.get("DATABASE_URL"):
            with psycopg.connect(url) as postgres:
                cursor = postgres.execute(query.encode())
                return cursor.fetchall() if cursor.description else []
        file = Path(self.environment["CONSOLE_DATA_DIR"]) / "console.sqlite3"
        with contextlib.closing(sqlite3.connect(file)) as sqlite, sqlite:
            return sqlite.execute(query).fetchall()

    def run_script(self, script: str) -> None:
        """A script in this installation, beside the server."""
        environment = self.environment | {"DJANGO_SETTINGS_MODULE": "console.settings"}
        command = [sys.executable, "-c", f"import django; django.setup()\n{script}"]
        subprocess.run(command, cwd=ROOT, env=environment, check=True)

    def stop(self, sign: int = signal.SIGTERM) -> int:
        """End it; its status."""
        self.process.send_signal(sign)
        return self.process.wait(60)


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
