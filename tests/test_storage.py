"""/readyz while the disk, the folder, the file or the log of the database fails, each in its own way."""

import contextlib
import resource
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar, cast

import httpx
import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from console import health, storage
from console.sessions.store import Session
from console.storage import Integrity
from tests.support.disks import full, read_only, small_disk
from tests.support.person import Person, fields, wait_for
from tests.support.servers import Server, running
from tests.support.world import only_postgres

FILE = "console.sqlite3"


T = TypeVar("T")


def only_sqlite(test: T) -> T:
    return cast(T, pytest.mark.once(pytest.mark.skipif(connection.vendor != "sqlite", reason="needs SQLite")(test)))


def ready(server: Server) -> tuple[int, str]:
    answer = httpx.get(f"{server.address}/readyz", timeout=10)
    return answer.status_code, answer.text


def wait_until_ready_says(server: Server, status: int, text: str) -> None:
    """Each process remembers for a second what it found."""
    wait_for(lambda: all(ready(server)[0] == status and text in ready(server)[1] for _ in range(10)))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as mounted:
        yield mounted


def move_log_into(file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0


@only_sqlite
def test_a_disk_that_is_full_or_read_only(disk: Path, tmp_path: Path) -> None:
    file = disk / FILE
    with running(tmp_path / "data", DATABASE_URL=f"sqlite:///{file}") as server, Person(server.address) as owner:
        form = fields(owner.log_on().http.get("/api-keys/").text)
        wait_until_ready_says(server, 200, "ok\n")
        move_log_into(file)  # so that every commit needs room
        with full(disk):
            wait_until_ready_says(server, 503, "the disk is full: No space left on device\n")
            answer = owner.http.post("/api-keys/create/", data=form)
            assert answer.status_code == 503 and answer.headers["retry-after"]
            assert httpx.get(f"{server.address}/healthz").status_code == 200
        wait_until_ready_says(server, 200, "ok\n")
        with read_only(disk):
            wait_until_ready_says(server, 503, "the database's folder is not writable: Read-only file system\n")
        wait_until_ready_says(server, 200, "ok\n")
        assert owner.http.post("/api-keys/create/", data=form).status_code == 200
        assert len(owner.key_ids()) == 1
        assert "Traceback" not in server.output.read_text() + server.errors.read_text()


@only_sqlite
def test_a_file_that_is_damaged(fresh_server: Server) -> None:
    assert ready(fresh_server)[0] == 200
    file = fresh_server.folder / FILE
    move_log_into(file)
    with contextlib.closing(sqlite3.connect(file)) as other:
        (page,) = other.execute("SELECT rootpage FROM sqlite_master WHERE name = 'apikeys_apikey'").fetchone()
        (size,) = other.execute("PRAGMA page_size").fetchone()
    with file.open("r+b") as damaged:
        damaged.seek((page - 1) * size)
        damaged.write(b"\xff" * size)
    wait_until_ready_says(fresh_server, 503, "the database file is damaged: ")
    assert httpx.get(f"{fresh_server.address}/healthz").status_code == 200


@only_sqlite
def test_a_file_that_was_removed_while_in_use(fresh_server: Server) -> None:
    for suffix in ("-shm", "-wal"):
        wait_for(lambda: all(ready(fresh_server)[0] == 200 for _ in range(20)))  # each worker has it open
        (fresh_server.folder / f"{FILE}{suffix}").unlink()
        wait_until_ready_says(fresh_server, 503, f"{FILE}{suffix} was removed while in use: restart")
        fresh_server.stop()
        fresh_server.start()
    (fresh_server.folder / FILE).unlink()
    wait_until_ready_says(fresh_server, 503, "the database file is missing\n")


class TestOften:
    """However often it is asked for."""

    @pytest.mark.django_db
    def test_the_database_is_written_once_a_second(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(health, "FRESH_SECONDS", 3600)
        with CaptureQueriesContext(connection) as asked:
            assert {Client().get("/readyz").status_code for _ in range(1000)} == {200}
        written = [query["sql"] for query in asked if query["sql"].startswith("INSERT")]
        assert len(written) == 1 and len(asked) < 20

    def test_a_long_check_is_waited_for_by_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        begun, answered = threading.Event(), threading.Event()
        checks: list[int] = []

        def check() -> str:
            checks.append(len(checks))
            begun.set()
            assert answered.wait(10)
            return f"problem {checks[-1]}"

        monkeypatch.setattr(health, "FRESH_SECONDS", 3600)
        monkeypatch.setattr(health, "find_problem", check)
        readiness = health.Readiness()
        with ThreadPoolExecutor(3) as pool:
            first = [pool.submit(readiness.look) for _ in range(3)]
            assert begun.wait(10) and not any(one.done() for one in first), "nothing is known yet"
            answered.set()
            assert {one.result() for one in first} == {"problem 0"}
            begun.clear()
            answered.clear()
            readiness.fresh_until = 1e-9  # long ago
            again = pool.submit(readiness.look)
            assert begun.wait(10)
            assert readiness.look() == "problem 0" and not again.done()
            answered.set()
            assert again.result() == readiness.look() == "problem 1"


@pytest.mark.django_db(transaction=True)
class TestHere:
    """What takes no server."""

    def said(self) -> str:
        response = Client().get("/readyz")
        said = response.content.decode()
        assert response.status_code == (200 if said == "ok\n" else 503)
        return said.removesuffix("\n")

    def test_it_leaves_nothing_behind(self) -> None:
        before = Session.objects.count()
        assert self.said() == "ok"
        assert Session.objects.count() == before

    @only_sqlite
    def test_a_limit_of_size_counts_as_a_full_disk(self) -> None:
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, most))
        try:
            assert self.said() == "the disk is full: File too large"
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    @only_postgres
    def test_a_database_that_may_only_be_read(self) -> None:
        """As a standby may."""
        with connection.cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = on")
            try:
                assert self.said() == "the database cannot be written: ReadOnlySqlTransaction"
            finally:
                cursor.execute("SET default_transaction_read_only = off")

    @only_sqlite
    def test_a_database_that_somebody_else_writes_to_without_end(self) -> None:
        name = connection.settings_dict["NAME"]
        with contextlib.closing(sqlite3.connect(name, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert self.said() == "the database cannot be written: database is locked"

    @only_sqlite
    def test_a_file_that_is_none_of_a_database(self, tmp_path: Path) -> None:
        file = tmp_path / "other"
        file.write_bytes(b"no database " * 1000)
        assert Integrity().problem(file) == "the database file is damaged: file is not a database"

    @only_sqlite
    def test_a_file_that_cannot_be_opened_is_not_called_damaged(self, tmp_path: Path) -> None:
        integrity = Integrity()
        assert integrity.problem(tmp_path) == "the database file cannot be read: unable to open database file"

    @only_sqlite
    def test_the_check_of_a_large_file_is_not_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(storage, "CHECK_SECONDS", 0)
        release = threading.Event()
        integrity = Integrity()
        integrity.thread.submit(release.wait)  # it is busy
        file = storage.sqlite_file()
        assert file and integrity.problem(file) == ""
        release.set()
        wait_for(lambda: integrity.result is not None and integrity.result.done())
