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

from tests.support.person import PASSWORD, wait_for

ROOT = Path(__file__).resolve().parent.parent.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
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


class Server:
    """`python -m console.start`, as a process."""

    def __init__(self, folder: Path, **environment: str) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
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
            **environment,
        }

    def start(self) -> str:
        """Until it serves; what it printed by then."""
        command = [sys.executable, "-m", "console.start"]
        with self.output.open("w") as out, self.errors.open("w") as err:
            self.process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=out, stderr=err)
        wait_for(lambda: "Account:" in self.output.read_text() or self.process.poll() is not None, 90)
        assert self.process.returncode is None, self.errors.read_text()
        return self.output.read_text()

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
