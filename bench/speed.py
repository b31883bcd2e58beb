"""How fast is the gate, beside what else one would take? All in one run, in turns, on this machine.

    make bench        (wrk has to be installed; without PostgreSQL its rows are left out)

Each contender has two gunicorn workers and is asked over 16 connections. Ratios are medians of the ratios to bare
gunicorn in the same round: the machine's speed drifts, they hardly do. A gate's calls are counted and added to its
database while it is asked; the round ends when the last of them is there, and what that cost is a column of its own.
PostgreSQL runs without fsync, which look-ups do not need.
"""

import argparse
import contextlib
import os
import re
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from apikeys.keys import format as keyformat
from console.vault import Vault, new_key
from tests.support.person import wait_for
from tests.support.postgres import postgres, postgres_folder
from tests.support.servers import ROOT, free_port

SAMPLED = 100_000  # of a million keys, those that are asked for
TICKS = os.sysconf("SC_CLK_TCK")
GUNICORN = [sys.executable, "-m", "gunicorn", "--no-control-socket", "--log-level", "error"]
TARGETS = {"SQLite": (4.0, 12.0), "PostgreSQL": (2.0, 7.0)}  # of bare gunicorn, of djangorestframework-api-key
PEER = "djangorestframework-api-key, SQLite"


@dataclass
class Contender:
    name: str
    words: list[str]  # gunicorn's
    environment: dict[str, str]
    keys: Path
    postmaster: int = 0  # whose processes work for it too
    meter: int = 0  # the process that adds its calls to the database
    path: str = "/verify"
    header: str = "dashvector-auth-token"
    prefix: str = ""
    port: int = field(default_factory=free_port)
    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    database_cpu: list[float] = field(default_factory=list)
    metering_cpu: list[float] = field(default_factory=list)
    latency: list[tuple[float, float]] = field(default_factory=list)
    errors: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}"

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        command = [*GUNICORN, "-w", "2", "-b", f"127.0.0.1:{self.port}", *self.words]
        self.process = subprocess.Popen(command, cwd=ROOT, env=os.environ | self.environment)
        try:
            wait_for(lambda: self.status("nonsense") > 0)
            good, bad = self.status(self.keys.read_text().split()[0]), self.status("nonsense")
            assert good == 200 and (bad != 200 or "bare" in self.name), (self.name, good, bad)
            yield
        finally:
            self.process.terminate()
            self.process.wait(60)

    def status(self, key: str) -> int:
        request = urllib.request.Request(self.url, headers={self.header: self.prefix + key})
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def round(self, seconds: int) -> None:
        words = ["-t1", "-c16", f"-d{seconds}", "--latency", "-s", str(ROOT / "bench" / "load.lua"), self.url, "--"]
        parts = (self.process.pid, self.postmaster, self.meter)
        before = [cpu_of(part) for part in parts]
        load = subprocess.run(
            ["wrk", *words, str(self.keys), self.header, self.prefix], capture_output=True, text=True, check=True
        ).stdout
        wait_for(self.counted, 120)
        calls = int(found(r"(\d+) requests in", load))
        spent = [(cpu_of(part) - used) / calls * 1e6 for part, used in zip(parts, before, strict=True)]
        self.cpu.append(spent[0])
        self.database_cpu.append(spent[1])
        self.metering_cpu.append(spent[2])
        self.rates.append(float(found(r"Requests/sec:\s+([\d.]+)", load)))
        self.latency.append(
            (milliseconds(found(r"\n\s+50%\s+(\S+)", load)), milliseconds(found(r"\n\s+99%\s+(\S+)", load)))
        )
        self.errors += sum(
            map(int, re.findall(r"(?:Non-2xx or 3xx responses:|connect|read|write|timeout) (\d+)", load))
        )

    def counted(self) -> bool:
        """Whether every call is in the database."""
        folder = Path(self.environment.get("CONSOLE_DATA_DIR", "/nonexistent")) / "metering"
        return not self.meter or not any(folder.glob("*.calls"))

    def warm(self) -> None:
        """Forget what was measured so far."""
        for measured in (self.rates, self.cpu, self.database_cpu, self.metering_cpu, self.latency):
            measured.clear()


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, text
    return match[1]


def milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process and all below it have used, those that have ended included."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split() if pid else []
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() if pid else ["0"] * 15
    except (FileNotFoundError, ProcessLookupError):  # ended between its parent's list and here: the parent has its time
        return 0.0
    return sum(map(int, stat[11:15])) / TICKS + sum(cpu_of(int(child)) for child in children)


def postgres_database(address: str, name: str) -> tuple[str, int]:
    """A new database's address, and the server's process."""
    with psycopg.connect(address, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}".encode())
        (data,) = server.execute("SHOW data_directory").fetchone() or ("",)
    return address.rpartition("/")[0] + f"/{name}", int(Path(data, "postmaster.pid").read_text().split()[0])


def fill(environment: dict[str, str], count: int, keys: Path) -> None:
    """`count` keys of one account in that database, and a file with those that will be asked for."""
    manage = [sys.executable, "manage.py"]
    subprocess.run([*manage, "migrate", "-v0"], cwd=ROOT, env=os.environ | environment, check=True)
    subprocess.run(
        [*manage, "createroot", "bench"], cwd=ROOT, env=os.environ | environment, check=True, stdout=subprocess.DEVNULL
    )
    vault = Vault(environment["VAULT_KEYS"], environment["DIGEST_KEYS"])
    secrets = [keyformat.new_secret() for _ in range(min(count, SAMPLED))]
    keys.write_text("\n".join(secrets))
    digests = [vault.digests("api-key", secret)[0] for secret in secrets]
    digests += [os.urandom(32) for _ in range(count - len(digests))]
    box, now = os.urandom(71), "2026-01-01 00:00:00+00:00"
    columns = "id, account_id, hint, digest, sealed_secret, request_id, created_at, account_disabled"
    if "DATABASE_URL" in environment:
        with psycopg.connect(environment["DATABASE_URL"]) as server:
            account = server.execute("SELECT id FROM console_user").fetchone()[0]  # type: ignore[index]
            with server.cursor().copy(f"COPY apikeys_apikey ({columns}) FROM STDIN".encode()) as copy:
                for digest in digests:
                    copy.write_row((uuid.uuid4(), account, "bench", digest, box, uuid.uuid4(), now, False))
        with psycopg.connect(environment["DATABASE_URL"], autocommit=True) as server:
            server.execute("VACUUM ANALYZE apikeys_apikey")
        return
    with sqlite3.connect(Path(environment["CONSOLE_DATA_DIR"]) / "console.sqlite3") as file:
        rows = ((uuid.uuid4().hex, 1, "bench", digest, box, uuid.uuid4().hex, now[:19], False) for digest in digests)
        file.executemany(f"INSERT INTO apikeys_apikey ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        file.execute("ANALYZE")


def contenders(folder: Path, many: int, stack: contextlib.ExitStack) -> list[Contender]:
    """All of them, their databases filled."""
    programs = postgres_folder()
    address = stack.enter_context(postgres(programs)) if programs else ""
    if not programs:
        print("Left out: PostgreSQL, because it is missing (Debian's package postgresql).")
    gates: list[Contender] = []
    few: dict[str, str] = {}
    for database in ("SQLite", "PostgreSQL") if programs else ("SQLite",):
        for count in (3, many):
            print(f"Filling {database} with {count:,} keys ...", file=sys.stderr, flush=True)
            name = f"{database.lower()}_{count}"
            data = folder / name
            data.mkdir()
            environment = {
                "CONSOLE_DATA_DIR": str(data),
                "SECRET_KEY": "x",
                "VAULT_KEYS": new_key(),
                "DIGEST_KEYS": new_key(),
            }
            postmaster = 0
            if database == "PostgreSQL":
                environment["DATABASE_URL"], postmaster = postgres_database(address, name)
            fill(environment, count, data / "keys")
            meter = subprocess.Popen([sys.executable, "manage.py", "meter"], cwd=ROOT, env=os.environ | environment)
            stack.callback(meter.wait)
            stack.callback(meter.terminate)
            words = ["-c", "python:apikeys.gate.gunicorn_conf", "apikeys.gate.main:gate"]
            about, rows = f"{database}, {count:,} keys", data / "keys"
            gates.append(Contender(f"the gate, {about}", words, environment, rows, postmaster, meter.pid))
            if not postmaster:
                words = [*words[:2], "bench.peers.uncounted:gate"]
                gates.append(Contender(f"the gate without counting, {about}", words, environment, rows))
            few = few or environment
    keys = Path(few["CONSOLE_DATA_DIR"]) / "keys"
    peer = {"PEER_DATABASE": str(folder / "peer.sqlite3")}
    made = subprocess.run(
        [sys.executable, "-m", "bench.peers.drf"],
        cwd=ROOT,
        env=os.environ | peer,
        capture_output=True,
        text=True,
        check=True,
    )
    for name, secret in zip(("key", "token"), made.stdout.split(), strict=True):
        (folder / name).write_text(secret)
    drf = ["bench.peers.drf:application"]
    return [
        Contender("bare gunicorn, sync worker", ["bench.peers.bare:application"], {}, keys),
        *gates,
        Contender("Django view with the ORM, SQLite", ["bench.peers.orm:application"], few, keys),
        Contender(PEER, drf, peer, folder / "key", path="/api-key", header="Authorization", prefix="Api-Key "),
        Contender(
            "django-rest-knox, SQLite",
            drf,
            peer,
            folder / "token",
            path="/knox",
            header="Authorization",
            prefix="Token ",
        ),
        Contender("FastAPI, sqlite3 inline", ["-k", "uvicorn_worker.UvicornWorker", "bench.peers.fast:app"], few, keys),
    ]


def ratio(one: Contender, other: Contender) -> float:
    return statistics.median(a / b for a, b in zip(one.rates, other.rates, strict=True))


def report(all_of_them: list[Contender]) -> None:
    bare, median = all_of_them[0], statistics.median
    print("\n| contender | calls/s | ratio to bare | CPU µs a call | database | metering | p50 ms | p99 ms | errors |")
    print("|---|---|---|---|---|---|---|---|---|")
    for one in all_of_them:
        database = f"{median(one.database_cpu):.0f}" if one.postmaster else ""
        metering = f"{median(one.metering_cpu):.0f}" if one.meter else ""
        p50, p99 = (median(values) for values in zip(*one.latency, strict=True))
        cells = [one.name, f"{median(one.rates):,.0f}", f"{ratio(one, bare):.2f}", f"{median(one.cpu):.0f}"]
        print("| " + " | ".join([*cells, database, metering, f"{p50:.2f}", f"{p99:.2f}", str(one.errors)]) + " |")
    named = {one.name: one for one in all_of_them}
    print("\n| promise | to reach | reached |\n|---|---|---|")
    for database, (of_bare, of_peer) in TARGETS.items():
        gates = [one for one in all_of_them if one.name.startswith(f"the gate, {database}")]
        for gate in gates:
            print(f"| {gate.name}, to bare gunicorn | {of_bare:.0f} | {ratio(gate, bare):.2f} |")
            print(f"| {gate.name}, to {PEER} | {of_peer:.0f} | {ratio(gate, named[PEER]):.1f} |")
            if uncounted := named.get(gate.name.replace("gate", "gate without counting")):
                print(f"| {gate.name}, to the same without counting | 0.80 | {ratio(gate, uncounted):.2f} |")
        if gates:
            print(f"| {gates[1].name}, to 3 keys | 0.80 to 1.20 | {ratio(gates[1], gates[0]):.2f} |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--keys", type=int, default=1_000_000)
    words = parser.parse_args()
    if not shutil.which("wrk"):
        print("wrk is missing; install it (Debian's package wrk).")
        return 1
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, contextlib.ExitStack() as stack:
        all_of_them = contenders(Path(folder), words.keys, stack)
        for one in all_of_them:
            stack.enter_context(one.serving())
        for number in range(words.rounds + 1):
            for one in all_of_them:
                print(f"\rRound {number} of {words.rounds}: {one.name:50}", end="", file=sys.stderr, flush=True)
                one.round(words.seconds)
                if number == 0:
                    one.warm()
        report(all_of_them)
    return 1 if any(one.errors for one in all_of_them) else 0


if __name__ == "__main__":
    sys.exit(main())
