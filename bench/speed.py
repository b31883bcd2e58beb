"""How fast is the gate, compared with what one would use instead? All in one run, in turns, on this machine.

    make bench        (wrk has to be installed; without PostgreSQL its rows are left out)

Each contender has two gunicorn workers and is called over 16 connections. A ratio is the median of the ratios to bare
gunicorn in the same round: the speed of a machine drifts, ratios hardly do. The gate's calls are counted and added to
its database during the round, which ends when the last of them is there; what that costs has a column of its own.
PostgreSQL runs without fsync, which look-ups do not need.
"""

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.contender import Contender
from bench.databases import environment_of, fill, postgres_database
from tests.support.postgres import postgres, postgres_folder
from tests.support.servers import ROOT

TARGETS = {"SQLite": (4.0, 12.0), "PostgreSQL": (2.0, 7.0)}  # of bare gunicorn, of djangorestframework-api-key
PEER = "djangorestframework-api-key, SQLite"


GATE = ["-c", "python:apikeys.gate.gunicorn_conf", "apikeys.gate.main:gate"]
UNCOUNTED = [*GATE[:2], "bench.peers.uncounted:gate"]
DRF = ["bench.peers.drf:application"]


def gates(folder: Path, many: int, stack: contextlib.ExitStack) -> list[Contender]:
    """The gate on each database, with few and with many keys, each with its process that adds counted calls."""
    found: list[Contender] = []
    programs = postgres_folder()
    url = stack.enter_context(postgres(programs)) if programs else ""
    if not programs:
        print("Left out: PostgreSQL, because it is missing (Debian's package postgresql).")
    for database in ("SQLite", "PostgreSQL") if programs else ("SQLite",):
        for count in (3, many):
            print(f"Filling {database} with {count:,} keys ...", file=sys.stderr, flush=True)
            name, title = f"{database.lower()}_{count}", f"{database}, {count:,} keys"
            environment, keys, postmaster = environment_of(folder / name), folder / name / "keys", 0
            if database == "PostgreSQL":
                environment["DATABASE_URL"], postmaster = postgres_database(url, name)
            fill(environment, count, keys)
            meter = subprocess.Popen([sys.executable, "manage.py", "meter"], cwd=ROOT, env=os.environ | environment)
            stack.callback(meter.wait)
            stack.callback(meter.terminate)
            found.append(Contender(f"the gate, {title}", GATE, environment, keys, postmaster, meter.pid))
            if not postmaster:
                found.append(Contender(f"the gate without counting, {title}", UNCOUNTED, environment, keys))
    return found


def peers(folder: Path, gate: Contender) -> list[Contender]:
    """Other packages with a key each, and other ways to ask the database of that gate."""
    environment = {"PEER_DATABASE": str(folder / "peer.sqlite3")}
    command = [sys.executable, "-m", "bench.peers.drf"]
    made = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=True)
    for name, secret in zip(("key", "token"), made.stdout.split(), strict=True):
        (folder / name).write_text(secret)

    def drf(name: str, keys: str, path: str, prefix: str) -> Contender:
        return Contender(name, DRF, environment, folder / keys, path=path, header="Authorization", prefix=prefix)

    fastapi = ["-k", "uvicorn_worker.UvicornWorker", "bench.peers.fast:app"]
    return [
        Contender("Django view with the ORM, SQLite", ["bench.peers.orm:application"], gate.environment, gate.keys),
        drf(PEER, "key", "/api-key", "Api-Key "),
        drf("django-rest-knox, SQLite", "token", "/knox", "Token "),
        Contender("FastAPI, sqlite3 inline", fastapi, gate.environment, gate.keys),
    ]


def contenders(folder: Path, many: int, stack: contextlib.ExitStack) -> list[Contender]:
    ours = gates(folder, many, stack)
    bare = Contender("bare gunicorn, sync worker", ["bench.peers.bare:application"], {}, ours[0].keys)
    return [bare, *ours, *peers(folder, ours[0])]


def ratio(one: Contender, other: Contender) -> float:
    return statistics.median(a / b for a, b in zip(one.rates, other.rates, strict=True))


def report(found: list[Contender]) -> None:
    bare, median = found[0], statistics.median
    print("\n| contender | calls/s | ratio to bare | CPU µs a call | database | metering | p50 ms | p99 ms | errors |")
    print("|---|---|---|---|---|---|---|---|---|")
    for one in found:
        database = f"{median(one.database_cpu):.0f}" if one.postmaster else ""
        metering = f"{median(one.metering_cpu):.0f}" if one.meter else ""
        p50, p99 = (median(values) for values in zip(*one.latency, strict=True))
        cells = [one.name, f"{median(one.rates):,.0f}", f"{ratio(one, bare):.2f}", f"{median(one.cpu):.0f}"]
        print("| " + " | ".join([*cells, database, metering, f"{p50:.2f}", f"{p99:.2f}", str(one.errors)]) + " |")
    named = {one.name: one for one in found}
    print("\n| promise | to reach | reached |\n|---|---|---|")
    for database, (of_bare, of_peer) in TARGETS.items():
        few_and_many = [one for one in found if one.name.startswith(f"the gate, {database}")]
        for gate in few_and_many:
            print(f"| {gate.name}, to bare gunicorn | {of_bare:.0f} | {ratio(gate, bare):.2f} |")
            print(f"| {gate.name}, to {PEER} | {of_peer:.0f} | {ratio(gate, named[PEER]):.1f} |")
            if uncounted := named.get(gate.name.replace("gate", "gate without counting")):
                print(f"| {gate.name}, to the same without counting | 0.80 | {ratio(gate, uncounted):.2f} |")
        if few_and_many:
            few, many = few_and_many
            print(f"| {many.name}, to 3 keys | 0.80 to 1.20 | {ratio(many, few):.2f} |")


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
        found = contenders(Path(folder), words.keys, stack)
        for one in found:
            stack.enter_context(one.serving())
        for number in range(words.rounds + 1):
            for one in found:
                print(f"\rRound {number} of {words.rounds}: {one.name:50}", end="", file=sys.stderr, flush=True)
                one.round(words.seconds)
                if number == 0:
                    one.forget()
        report(found)
    return 1 if any(one.errors for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())
