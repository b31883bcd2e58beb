"""The database at a start: migrated whole or not at all, and never one that a newer version has migrated."""

import hashlib
import importlib
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from django.apps import apps
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from django.utils import timezone

from console import schema
from console.sessions.store import Session
from tests.support.person import Person, wait_for
from tests.support.servers import ROOT, Server, database_address, running
from tests.support.world import only_postgres

# A disk that is full, for one process: no file of it can be longer.
LIMITED = """
import resource, runpy, sys
sys.dont_write_bytecode = True
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
runpy.run_module("console.start", run_name="__main__")
"""


def run(server: Server, *words: str) -> subprocess.CompletedProcess[str]:
    command, environment = [sys.executable, *words], server.environment
    if LIMITED in words:  # coverage's own file cannot be longer either, and it would say so
        environment = {name: text for name, text in environment.items() if not name.startswith("COVERAGE")}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)


def rows(file: Path) -> list[str]:
    with closing(sqlite3.connect(file)) as database:
        return list(database.iterdump())


def migrated(file: Path) -> set[tuple[str, str]]:
    with closing(sqlite3.connect(file)) as database:
        return set(database.execute("SELECT app, name FROM django_migrations"))


@pytest.mark.once
class TestOnSqlite:
    @pytest.fixture(scope="class")
    @classmethod
    def old(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A folder with an account and a key, that lacks a migration."""
        folder = tmp_path_factory.mktemp("old") / "data"
        server = Server(folder)
        server.start()
        with Person(server.address) as owner:
            owner.log_on().create()
        server.stop()
        *_, before, _ = sorted(name for app, name in migrated(folder / "console.sqlite3") if app == "apikeys")
        assert run(server, "manage.py", "migrate", "apikeys", before).returncode == 0
        return folder

    @pytest.fixture
    def file(self, old: Path, tmp_path: Path) -> Path:
        shutil.copytree(old, tmp_path / "data")
        return tmp_path / "data" / "console.sqlite3"

    def test_a_first_start_that_met_a_full_disk_starts_later(self, tmp_path: Path) -> None:
        server = Server(tmp_path / "data")
        for size in (4096, 100_000, 300_000):
            ended = run(server, "-c", LIMITED, str(size))
            assert ended.returncode == 1 and not ended.stdout
            assert "console.sqlite3 cannot be migrated: " in ended.stderr
            assert len(ended.stderr.splitlines()) == 1
            assert not [*(tmp_path / "data").glob("console.sqlite3*")]
        server.start()
        assert server.stop() == 0

    @pytest.mark.parametrize("part", [0.5, 0.99])
    def test_an_upgrade_that_met_a_full_disk_has_changed_nothing(self, file: Path, part: float) -> None:
        server, before = Server(file.parent), rows(file)
        ended = run(server, "-c", LIMITED, str(int(file.stat().st_size * part)))
        assert ended.returncode == 1
        assert (
            "It is unchanged. Make room on the disk for a copy" in ended.stderr and len(ended.stderr.splitlines()) == 1
        )
        assert rows(file) == before and [*file.parent.glob("console.sqlite3*")] == [file]
        server.start()
        assert server.stop() == 0

    def test_an_upgrade_leaves_the_copy_from_before(self, file: Path) -> None:
        server, before = Server(file.parent), rows(file)
        server.start()
        server.stop()
        (new,) = migrated(file) - migrated(file.with_name("console.sqlite3.before"))
        assert new[0] == "apikeys"
        assert rows(file.with_name("console.sqlite3.before")) == before
        assert not file.with_name("console.sqlite3.new").exists()
        server.start()  # with nothing to migrate, the copy stays as it is
        server.stop()
        assert rows(file.with_name("console.sqlite3.before")) == before

    def test_one_that_was_killed_is_made_up_for(self, file: Path) -> None:
        server = Server(file.parent)
        server.run()
        wait_for(file.with_name("console.sqlite3.new").exists)
        server.process.kill()
        server.process.wait()
        server.start()
        assert server.stop() == 0
        assert ("apikeys", max(name for app, name in migrated(file) if app == "apikeys")) in migrated(file)

    def test_none_while_another_process_uses_the_file(self, file: Path) -> None:
        server, before = Server(file.parent), rows(file)
        with closing(sqlite3.connect(file)) as other:
            other.execute("PRAGMA journal_mode=WAL")
            ended = run(server, "-m", "console.start")
        assert ended.returncode == 1
        assert f"{file} must be migrated. Another process uses" in ended.stderr
        assert rows(file) == before
        server.start()
        assert server.stop() == 0

    def test_a_folder_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        file = tmp_path / "none" / "console.sqlite3"
        ended = run(Server(tmp_path / "data", DATABASE_URL=f"sqlite:///{file}"), "-m", "console.start")
        assert ended.returncode == 1
        assert ended.stderr.startswith(f"{file} cannot be migrated") and len(ended.stderr.splitlines()) == 1


class TestANewerVersion:
    def test_its_database_is_refused(self, tmp_path: Path) -> None:
        with running(tmp_path / "data") as server:
            server.execute(
                "INSERT INTO django_migrations (app, name, applied) VALUES ('apikeys', '9999_later', CURRENT_TIMESTAMP)"
            )
            wait_for(lambda: httpx.get(f"{server.address}/readyz").text == "migrated by a newer version\n")
            assert httpx.get(f"{server.address}/readyz").status_code == 503
            server.stop()
            ended = run(server, "-m", "console.start")
            assert ended.returncode == 1 and not ended.stdout
            assert ended.stderr == (
                "The database was migrated by a newer version. Start that version, or restore a backup from before the "
                "upgrade.\n"
            )
            server.execute("DELETE FROM django_migrations WHERE name = '9999_later'")
            server.start()

    @pytest.mark.django_db
    @pytest.mark.parametrize(
        ("app", "name", "newer"),
        [
            ("console", "0000_of_a_branch", True),
            ("auth", "9999_later", True),
            ("auth", "0001_squashed_away", False),
            ("a_package_that_is_gone", "9999_later", False),
        ],
    )
    def test_which_it_is(self, app: str, name: str, newer: bool) -> None:
        MigrationRecorder(connection).record_applied(app, name)
        assert Client().get("/readyz").status_code == (503 if newer else 200)
        assert schema.state() == (schema.NEWER if newer else "")

    @pytest.mark.django_db
    def test_one_that_lacks_a_migration_is_not_ready(self) -> None:
        (last,) = MigrationLoader(connection).graph.leaf_nodes("apikeys")
        MigrationRecorder(connection).record_unapplied(*last)
        response = Client().get("/readyz")
        assert (response.status_code, response.content) == (503, b"migrations are not applied\n")


@only_postgres
def test_two_machines_start_on_one_database(tmp_path: Path) -> None:
    from tests.test_environment import SECRETS

    with database_address() as database:
        both = [Server(tmp_path / name, **database, **SECRETS) for name in ("one", "other")]
        for server in both:
            server.run()
        for server in both:
            server.wait_until_serving()
        assert [server.stop() for server in both] == [0, 0]


def test_a_password_that_was_not_printed_is_printed_at_the_next_start(tmp_path: Path) -> None:
    """A start that was killed when the account was there already."""
    kept = tmp_path / "data" / "root-password"
    with database_address() as database:
        server = Server(tmp_path / "data", CONSOLE_ROOT_PASSWORD="", **database)
        server.run()
        wait_for((tmp_path / "data" / "static").exists, 60)
        server.process.kill()
        server.process.wait()
        assert kept.stat().st_mode & 0o077 == 0
        *_, printed = server.start().splitlines()
        try:
            assert not kept.exists()
            with Person(server.address) as owner:
                page = owner.send("/login/", username="root", password=printed.split()[1])
                assert page.url.path == "/security/authenticator/"
        finally:
            server.stop()
        assert "Password:" not in server.start()
        server.stop()


@pytest.mark.django_db
def test_however_many_sessions_there_are_each_is_digested_once() -> None:
    """SQLite's cursor over more than 2,000 rows met those that were added behind it, without an end."""
    migration = importlib.import_module("console.migrations.0011_session_digests")
    keys, later = [f"{number:032}" for number in range(2001)], timezone.now() + timedelta(hours=1)
    Session.objects.bulk_create([Session(session_key=key, expire_date=later) for key in keys])
    migration.digest_keys(apps, None)
    found = {*Session.objects.values_list("session_key", flat=True)}
    assert found == {hashlib.sha256(key.encode()).hexdigest() for key in keys}
