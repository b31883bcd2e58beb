"""The gate on the test's database, as processes or in process, and callers that keep it busy."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from django.conf import settings
from django.db import connection

from apikeys.gate import app as gate
from apikeys.gate import call
from apikeys.gate.configuration import GateConfiguration
from apikeys.keys.tombstones import append
from apikeys.metering.fold import fold_all
from apikeys.models import ApiKey, Usage
from apikeys.usage.store import UsageStore
from console.models import User
from console.proxies import TrustedProxies
from tests.support.servers import ROOT, free_port
from tests.support.waiting import wait_for


def database_url() -> str:
    """Of the test's own database, for other processes."""
    found = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{found['NAME']}"
    return f"postgres://{found['USER']}@{found['HOST']}:{found['PORT']}/{found['NAME']}"


def new_key() -> tuple[ApiKey, str]:
    """A key of a new account, and its secret."""
    return ApiKey.objects.issue(User.objects.create(username=uuid.uuid4().hex), uuid.uuid4())


def counted(key: ApiKey) -> tuple[int, int]:
    """The accepted and the refused calls of that key in the database."""
    rows = Usage.objects.filter(key=key).values_list("accepted", "refused")
    return sum(row[0] for row in rows), sum(row[1] for row in rows)


def fold_files(folder: Path) -> int:
    """Add the finished files in that folder to the database; how many were added."""
    return fold_all(folder, UsageStore())


@contextmanager
def table_gone() -> Iterator[None]:
    """The database can be reached, but has no table of keys."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE apikeys_apikey RENAME TO elsewhere")
        try:
            yield
        finally:
            cursor.execute("ALTER TABLE elsewhere RENAME TO apikeys_apikey")


@contextmanager
def hanging_database() -> Iterator[None]:
    """PostgreSQL's processes that serve the gate are stopped."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = %s AND query LIKE '%%ANY(%%' AND pid <> pg_backend_pid()",
            [connection.settings_dict["NAME"]],
        )
        backends = [row[0] for row in cursor.fetchall()]
    assert backends
    for backend in backends:
        os.kill(backend, signal.SIGSTOP)
    try:
        yield
    finally:
        for backend in backends:
            os.kill(backend, signal.SIGCONT)


TOKEN = b"dashvector-auth-token: "
Answer = tuple[int, dict[str, str], bytes]  # status, headers, body


def refusal(answer: Answer) -> str:
    """The status in a refusal, whose form is checked."""
    status, headers, body = answer
    assert status == 401
    assert (headers["content-type"], headers["www-authenticate"]) == ("application/json", "Bearer")
    said = json.loads(body)
    assert uuid.UUID(said["request_id"]) and said["code"] == 401 and said["message"].endswith(".")
    return headers["x-api-key-status"]


class Gate:
    """gunicorn with the gate's workers, and `manage.py meter`."""

    def __init__(
        self,
        folder: Path,
        workers: int = 2,
        configuration: str = "apikeys.gate.gunicorn_conf",
        host: str = "127.0.0.1",
        **environment: str,
    ) -> None:
        self.host, self.port, self.folder, self.configuration = host, free_port(), folder, configuration
        append(folder / "deleted-keys", [])  # which the gate would miss until `meter` has begun
        self.environment = os.environ | {
            "CONSOLE_DATA_DIR": str(folder),
            "DATABASE_URL": database_url(),
            "GATE_WORKERS": str(workers),
            "METERING_SECONDS": "0.1",
            "DJANGO_SETTINGS_MODULE": "console.settings",
            **environment,
        }

    def __enter__(self) -> Self:
        command = ["-m", "gunicorn", "-c", f"python:{self.configuration}", "-b", f"{self.host}:{self.port}"]
        self.master = self.start(*command, "apikeys.gate.main:gate")
        self.meter = self.start("manage.py", "meter")
        wait_for(lambda: self.answers() and len(self.workers()) == int(self.environment["GATE_WORKERS"]))
        return self

    def __exit__(self, *args: object) -> None:
        for process in (self.master, self.meter):
            process.terminate()
            process.wait(60)

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, *words], cwd=ROOT, env=self.environment)

    def kill_meter(self) -> None:
        """With -9, and start another."""
        self.meter.kill()
        self.meter.wait()
        self.meter = self.start("manage.py", "meter")

    def workers(self) -> list[int]:
        found = subprocess.run(["pgrep", "-P", str(self.master.pid)], capture_output=True, text=True)
        return [int(pid) for pid in found.stdout.split()]

    def kill_worker(self, pid: int) -> bool:
        """With -9; whether it was still alive."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            return True
        return False

    def answers(self) -> bool:
        try:
            return self.status("") == 401
        except OSError:
            return False

    def send(self, request: bytes, half_close: bool = False) -> bytes:
        """All that is received over a new connection, until it ends."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as caller:
            caller.sendall(request)
            if half_close:
                caller.shutdown(socket.SHUT_WR)
            received = b""
            while part := caller.recv(65536):
                received += part
            return received

    def ask(self, *headers: bytes, method: bytes = b"GET", path: bytes = b"/verify") -> Answer:
        lines = [b"%b %b HTTP/1.1" % (method, path), b"Host: gate", b"Connection: close", *headers, b"", b""]
        head, _, body = self.send(b"\r\n".join(lines)).partition(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")
        return int(first.split()[1]), dict(line.split(": ", 1) for line in rest), body

    def status(self, secret: str) -> int:
        return self.ask(b"dashvector-auth-token: " + secret.encode())[0]


class GateInProcess:
    """The same in the test's own process, called as apikeys.gate.http calls it."""

    def __init__(self, folder: Path, TRUSTED_PROXIES: str = "", metrics_port: int | None = None) -> None:
        self.configuration = GateConfiguration(
            database=Path(connection.settings_dict["NAME"]) if connection.vendor == "sqlite" else database_url(),
            digests=settings.VAULT.digests,
            trusted_proxies=TrustedProxies.parse(TRUSTED_PROXIES),
            deleted_keys_file=folder / "deleted-keys",
            metering_dir=folder / "metering",
            metering_seconds=0.1,
            max_connections=100,
            metrics_port=metrics_port,
        )
        append(self.configuration.deleted_keys_file, [])

    def __enter__(self) -> Self:
        self.runner = asyncio.Runner()
        self.gate = gate.Gate(self.configuration)
        self.runner.run(asyncio.wait_for(self.gate.lookup.open(), 15))
        return self

    def __exit__(self, *args: object) -> None:
        self.gate.close()
        self.runner.close()

    def ask(self, *headers: bytes, method: bytes = b"GET", path: bytes = b"/verify", peer: str = "127.0.0.1") -> Answer:
        sent = [(name.lower(), value.lstrip()) for name, _, value in (header.partition(b":") for header in headers)]

        async def asked() -> call.Answer:
            reply = asyncio.get_running_loop().create_future()
            self.gate.handle(call.Call(path, sent, peer), reply.set_result)
            answer: call.Answer = await asyncio.wait_for(reply, 15)
            return answer

        answer = self.runner.run(asked())
        if answer.status == call.OK:
            self.gate.counter.close()
            fold_files(self.configuration.metering_dir)
        lines = dict(line.split(": ", 1) for line in answer.headers.decode().splitlines())
        label = lines.get("x-api-key-status", "other")
        label = "accepted" if "x-account-id" in lines else "unavailable" if "retry-after" in lines else label
        assert answer.label == label
        return int(answer.status[:3]), lines, answer.body


class Callers:
    """Callers, each with its own key, that send one call after the other until stopped."""

    def __init__(self, port: int, secrets: list[str]) -> None:
        self.port, self.secrets = port, secrets
        self.accepted: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.cut: Counter[str] = Counter()  # calls without an answer
        self.stopped = False
        self.watch: Callable[[str, float, int], None] = lambda secret, began, status: None

    async def run(self) -> None:
        await asyncio.gather(*(self.call(secret) for secret in self.secrets))

    async def call(self, secret: str) -> None:
        request = f"GET /verify HTTP/1.1\r\nHost: gate\r\ndashvector-auth-token: {secret}\r\n\r\n".encode()
        while not self.stopped:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(0)
                continue
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while not self.stopped:
                    self.cut[secret] += 1
                    began = time.monotonic()
                    writer.write(request)
                    head = await reader.readuntil(b"\r\n\r\n")
                    status = int(head[9:12])
                    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                    await reader.readexactly(length)
                    self.cut[secret] -= 1
                    (self.accepted if status == 200 else self.refused)[secret] += 1
                    self.watch(secret, began, status)
            writer.close()
