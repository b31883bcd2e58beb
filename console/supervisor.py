"""Runs the servers for as long as the process that started it lives: `python -m console.supervisor PORT GATE_PORT`.

Its standard input is a socket to that process. To it, it writes the process group of each server, one per line, and
READY once they answer. When the other end is closed, however that process ended, it stops them.
"""

import http.client
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from console import environment, secret_files
from console.reading import NOT_IN_FILE

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
READY = "ready"
START_SECONDS = 60
GRACE_SECONDS = 3.0  # to answer what has been asked
COUNT_SECONDS = 1.0  # to add the last calls to the database; the next start adds the rest
STOP_SECONDS = 5  # by then, all have ended
SEE_OUTPUT = "See its output above for the cause."
# What each program is handed of environment.SECRETS.
SECRETS = {
    "Metering": {"DATABASE_URL"},
    "Housekeeping": {"DATABASE_URL", "EMAIL_URL"},
    "Gate": {"DATABASE_URL", "DIGEST_KEYS"},
    "Console": {"DATABASE_URL", "SECRET_KEY", "SECRET_KEY_FALLBACKS", "VAULT_KEYS", "DIGEST_KEYS"},
}

Server = subprocess.Popen[bytes]


class ServerError(Exception):
    """A server ended unexpectedly, or does not answer."""


class Supervisor:
    def __init__(self, line: socket.socket) -> None:
        self.line = line
        self.servers: dict[str, Server] = {}
        self.given = environment.read(needs=None).given

    def run(self, port: int, gate_port: int) -> int:
        """Run, and return the exit status: 0 once the line is closed, 1 after a server that ended unexpectedly."""
        try:
            self.start("Metering", "manage.py", "meter")
            self.start("Housekeeping", "manage.py", "housekeep")
            self.serve("Gate", gate_port, "apikeys.gate.gunicorn_conf", "apikeys.gate.main:gate")
            # Last: from the first page on, a key that is created works.
            self.serve("Console", port, "console.gunicorn_conf", "console.wsgi")
            self.write(READY)
            while not self.closed(0.1):
                self.check()
        except ServerError as error:
            print(error, file=sys.stderr, flush=True)
            return 1
        finally:
            self.stop()
        return 0

    def start(self, name: str, *words: str) -> None:
        if not self.closed():
            with handed_over(name, self.given) as (variables, file):
                server = subprocess.Popen(
                    [sys.executable, *words],
                    cwd=ROOT,
                    env=variables,
                    stdin=subprocess.DEVNULL,
                    process_group=0,
                    pass_fds=[file],
                )
            self.servers[name] = server
            self.write(str(server.pid))

    def serve(self, name: str, port: int, configuration: str, application: str) -> None:
        """Start it, and wait until it answers. Raises ServerError."""
        options = ["-c", f"python:{configuration}", "-b", f"{HOST}:{port}"]
        self.start(name, "-m", "gunicorn", *options, application)
        deadline = time.monotonic() + START_SECONDS
        while not self.closed(0.05) and not answers(port):
            self.check()
            if time.monotonic() > deadline:
                raise ServerError(f"{name} did not answer within {START_SECONDS} s. {SEE_OUTPUT}")

    def write(self, text: str) -> None:
        with suppress(BrokenPipeError):
            self.line.send(f"{text}\n".encode())

    def closed(self, seconds: float = 0) -> bool:
        """Whether the line is closed; waits so long for it."""
        return bool(select.select([self.line], [], [], seconds)[0])

    def check(self) -> None:
        """Raises ServerError where a server has ended."""
        for name, server in self.servers.items():
            if (status := server.poll()) is not None:
                how = f"with exit status {status}" if status >= 0 else f"on {signal.Signals(-status).name}"
                raise ServerError(f"{name} ended unexpectedly {how}. {SEE_OUTPUT}")

    def stop(self) -> None:
        """Metering last: it adds to the database what the gate has counted."""
        metering = self.servers.pop("Metering", None)
        end([*self.servers.values()], GRACE_SECONDS)
        end([metering] if metering else [], COUNT_SECONDS)


@contextmanager
def handed_over(name: str, given: Mapping[str, str]) -> Iterator[tuple[dict[str, str], int]]:
    """The environment of that program, which has no secret in it, and a file that has its secrets, and what else stands
    in secrets.env: in memory, and gone with the program."""
    inherited = environment.without_secrets()
    withheld = environment.SECRETS - {*SECRETS[name]} | NOT_IN_FILE
    secrets = {
        variable: text
        for variable, text in given.items()
        if variable not in withheld and (variable in SECRETS[name] or not inherited.get(variable))
    }
    if name == "Gate" and "GATE_DATABASE_URL" in given:
        secrets["DATABASE_URL"] = given["GATE_DATABASE_URL"]
    file = os.memfd_create("secrets.env")
    try:
        os.fchmod(file, 0o600)
        os.write(file, secret_files.as_text(secrets).encode())
        yield inherited | {"SECRETS_FILE": f"/proc/self/fd/{file}"}, file
    finally:
        os.close(file)


def answers(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=1)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def end(servers: list[Server], seconds: float) -> None:
    """Stop them with all their processes, and kill what does not end in that time."""
    for server in servers:
        if server.poll() is None:
            server.terminate()
        else:
            send(server, signal.SIGTERM)  # to workers that it left behind
    deadline = time.monotonic() + seconds
    while any(is_alive(server) for server in servers) and time.monotonic() < deadline:
        time.sleep(0.02)
    for server in servers:
        send(server, signal.SIGKILL)
        server.wait()


def is_alive(server: Server) -> bool:
    server.poll()  # a process that has ended is in its group until then
    return send(server, 0)


def send(server: Server, signum: int) -> bool:
    """Send a signal to its process group. Whether there is one."""
    try:
        os.killpg(server.pid, signum)
    except ProcessLookupError:
        return False
    return True


def main() -> int:
    line = socket.socket(fileno=os.dup(0))

    def stop(signum: int, frame: FrameType | None) -> None:
        with suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)

    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, stop)
    return Supervisor(line).run(*map(int, sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
