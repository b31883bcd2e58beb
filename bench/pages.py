"""Do the pages and the exports stay small and quick after years of use, at the product as `make run` starts it?

    make pages

On SQLite, and on PostgreSQL where it is installed.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import django
import httpx

from tests.support.postgres import postgres, postgres_folder
from tests.support.servers import AS_INSTALLED, Server, running

if TYPE_CHECKING:
    from django.test import Client

    from console.models import User

ROUNDS = 5


class Measured:
    """A user in the console: what the server answers, and what the same costs in queries."""

    def __init__(self, server: Server, user: "User") -> None:
        from tests.support.world import verified_client

        self.browser: Client = verified_client(user)
        cookies = {"sessionid": self.browser.cookies["sessionid"].value}
        self.http = httpx.Client(base_url=server.address, cookies=cookies, timeout=600)

    def page(self, path: str) -> None:
        from django.db import connection
        from django.test.utils import CaptureQueriesContext

        with CaptureQueriesContext(connection) as queries:
            self.browser.get(path)
        times = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            answer = self.http.get(path)
            times.append(time.perf_counter() - began)
        size, ms = len(answer.content) / 1000, statistics.median(times) * 1000
        print(f"{path[:70]:70}{answer.status_code:5}{len(queries):5} queries{size:8.1f} kB{ms:8.1f} ms", flush=True)

    def export(self, path: str, server: Server) -> None:
        before, size, first, began = peak(server), 0, 0.0, time.perf_counter()
        with self.http.stream("GET", path) as answer:
            for piece in answer.iter_raw():
                first = first or time.perf_counter() - began
                size += len(piece)
        whole = time.perf_counter() - began
        print(
            f"{path:40}{size / 1e6:7.1f} MB, first byte after {first * 1000:.0f} ms, whole after {whole:.1f} s;", end=""
        )
        print(f" the server's peak memory {before / 1000:.0f} -> {peak(server) / 1000:.0f} MB", flush=True)


def peak(server: Server) -> int:
    """The most memory, in kB, that any process of the server has ever had."""
    return max(map(most_memory, descendants(server.process.pid)))


def descendants(pid: int) -> Iterator[int]:
    yield pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield from descendants(int(child))


def most_memory(pid: int) -> int:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0])


def measure(server: Server, rows: int) -> None:
    """With the models and settings of that server, whose environment is this process's too."""
    from console.models import User
    from tests.support import filling
    from tests.support.world import enrolled

    many = enrolled("many", max_active_keys=5000)
    keys = filling.keys(many, 1501)
    filling.usage(keys, 24)
    print("\nAn account with 1,501 keys")
    pages = Measured(server, many)
    for path in ("", "?page=31", f"?q={keys[700].hint[:6]}", f"{keys[0].pk}/view/", f"{keys[0].pk}/delete/", "usage/"):
        pages.page(f"/api-keys/{path}")

    year = enrolled("year")
    keys = filling.keys(year, 3650, deleted=True)
    filling.ledger(year, 80_000, keys)
    filling.usage(keys, 24)
    print("\nAn account after a year of ten keys a day, with 80,000 events")
    pages = Measured(server, year)
    for path in ("", "?page=1600", "?kind=key.viewed", f"?key={keys[9].pk}", f"?q={keys[9].hint[:6]}"):
        pages.page(f"/activity/{path}")
    for path in ("", "usage/", "usage/?days=90"):
        pages.page(f"/api-keys/{path}")

    filling.ledger(year, rows - 80_000, keys)
    filling.usage(filling.keys(year, rows // 2160, deleted=True), 2160)
    print(f"\nThe same account with {rows:,} events, and {rows:,} hours of usage")
    pages.export("/activity/csv/", server)
    pages.export("/activity/csv/?kind=key.viewed", server)
    pages.export("/api-keys/usage/csv/?days=90", server)
    pages.page("/activity/")
    pages.page("/api-keys/usage/?days=90")

    accounts = filling.users(10_000)
    for number, account in enumerate(accounts):
        filling.keys(account, 10 if number < 9_500 else 0)
    print("\nOperators, with 10,000 accounts and 100,000 keys")
    pages = Measured(server, enrolled("operator", is_staff=True))
    some = User.objects.order_by("-pk")[5000]
    for path in (
        "console/user/",
        f"console/user/?q={some.username}",
        "console/user/?p=50",
        "console/user/add/",
        f"autocomplete/?app_label=console&model_name=user&field_name=account&term={some.username}",
        f"console/user/{some.pk}/change/",
        "apikeys/apikey/",
        "apikeys/apikey/?p=500",
        f"apikeys/apikey/?q={some.username}",
        f"apikeys/apikey/?q={keys[0].hint}",
    ):
        pages.page(f"/admin/{path}")


def measure_here(rows: int) -> None:
    """On the database that the environment names, in a database of its own."""
    with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "data", **AS_INSTALLED) as server:
        os.environ |= server.environment | {"DJANGO_SETTINGS_MODULE": "console.settings"}
        django.setup()
        from django.db import connection
        from django.test.utils import setup_test_environment

        setup_test_environment()
        print(f"\nOn {connection.vendor}", flush=True)
        measure(server, rows)
        connection.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--here", action="store_true", help="only on the database that DATABASE_URL names")
    words = parser.parse_args()
    if words.here:
        measure_here(words.rows)
        return 0
    command = [sys.executable, "-m", "bench.pages", "--here", "--rows", str(words.rows)]
    failed = subprocess.run(command).returncode
    programs = postgres_folder()
    if programs is None:
        print("Left out: PostgreSQL, because it is missing (Debian's package postgresql).")
        return failed
    with postgres(programs) as url:
        return subprocess.run(command, env=os.environ | {"DATABASE_URL": url}).returncode or failed


if __name__ == "__main__":
    sys.exit(main())
