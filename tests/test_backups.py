"""`manage.py backup` and `manage.py restore`, as an operator runs them."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.support import tampering
from tests.support.person import Person
from tests.support.servers import ROOT, Server, database_address, running
from tests.support.world import only_postgres

DAMAGE = "UPDATE console_entry SET who = 'somebody else' WHERE number = 2"


def manage(server: Server, *words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "manage.py", *map(str, words)]
    environment = server.environment | environment
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)


class Backup:
    """Of an installation with an account and a key, made while it served."""

    def __init__(self, folder: Path) -> None:
        self.file, self.server = folder / "backup", None
        with running(folder / "data") as server, Person(server.address) as owner:
            self.key_id, self.secret = owner.log_on().create()
            self.recovery_codes = owner.recovery_codes
            assert manage(server, "breakglass", "root").returncode == 0
            of_postgres = "DATABASE_URL" in server.environment
            server.execute(f"DROP TRIGGER console_entry_no_{'change ON console_entry' if of_postgres else 'delete'}")
            self.made = manage(server, "backup", self.file)
            self.again = manage(server, "backup", self.file)
            self.meanwhile = manage(server, "restore", self.file)
            self.holder = f"{folder / 'data'} is in use by process {server.process.pid}, which serves {server.address}."
            shutil.copy(folder / "data" / "secrets.env", folder)
        self.secrets = folder / "secrets.env"


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> Backup:
    return Backup(tmp_path_factory.mktemp("backup"))


@pytest.fixture
def other(tmp_path: Path, backup: Backup) -> Iterator[Server]:
    """An empty installation with the same keys."""
    folder = tmp_path / "other"
    folder.mkdir(0o700)
    shutil.copy(backup.secrets, folder)
    with database_address() as database:
        yield Server(folder, **database)


def test_it_is_written_while_everything_runs_and_says_what_it_needs(backup: Backup) -> None:
    assert backup.made.returncode == 0, backup.made.stderr
    first, second = backup.made.stdout.splitlines()
    assert first.startswith(f"{backup.file}: root accounts: 1, ") and first.endswith("Verified.")
    assert "DIGEST_KEYS 1, VAULT_KEYS 1" in second
    assert backup.file.stat().st_mode & 0o777 == 0o600
    for line in backup.secrets.read_text().splitlines():
        assert line.partition("=")[2].encode() not in backup.file.read_bytes()
    assert (backup.again.returncode, backup.again.stderr) == (
        1,
        f"CommandError: {backup.file} already exists. Choose another name.\n",
    )


def verify(server: Server, secret: str) -> httpx.Response:
    """What the gate answers."""
    return httpx.get(f"http://127.0.0.1:{server.gate_port}/verify", headers={"dashvector-auth-token": secret})


def test_what_was_there_is_there_again_but_for_what_is_deleted_since(backup: Backup, other: Server) -> None:
    """Whoever makes the key's row active, and whichever backup is restored."""
    restored = manage(other, "restore", backup.file)
    assert restored.returncode == 0, restored.stderr
    assert restored.stdout.startswith("Restored: root accounts: 1, ")
    missing = (
        f"{other.folder / 'deleted-keys'} does not exist: keys that were deleted after the backup are active again."
    )
    assert missing in restored.stdout
    links_and_sessions = "SELECT (SELECT count(*) FROM console_recovery), (SELECT count(*) FROM console_session)"
    assert other.execute(links_and_sessions) == [(0, 0)]
    with pytest.raises((sqlite3.IntegrityError, psycopg.IntegrityError), match="append-only"):
        other.execute("DELETE FROM console_entry")
    printed = other.start()
    try:
        assert "Password:" not in printed
        with Person(other.address) as owner:
            owner.recovery_codes = [*backup.recovery_codes]
            assert owner.log_on().key_ids() == [backup.key_id]
            assert verify(other, backup.secret).status_code == 200
            assert owner.delete(backup.key_id).status_code == 200
        assert verify(other, backup.secret).headers["x-api-key-status"] == "deleted"
        other.execute("UPDATE apikeys_apikey SET deleted_at = NULL, sealed_secret = 'sealed'")
        for _ in range(8):  # each worker
            assert verify(other, backup.secret).headers["x-api-key-status"] == "deleted"
    finally:
        assert other.stop() == 0
    with database_address() as empty:  # where the tests run on PostgreSQL, which wants one
        other.environment |= empty
        restored = manage(other, "restore", backup.file)
        said = "Keys that were deleted after the backup, and are deleted again: 1."
        assert (restored.returncode, restored.stdout.splitlines()[-1]) == (0, said), restored.stderr
        assert other.execute("SELECT count(*) FROM apikeys_apikey WHERE deleted_at IS NULL") == [(0,)]
        last = "SELECT kind, actor FROM console_entry ORDER BY number DESC LIMIT 1"
        assert other.execute(last) == [("key.deleted", "system")]
        assert manage(other, "verify_ledger").returncode == 0


def test_none_is_restored_into_what_runs(backup: Backup) -> None:
    assert backup.meanwhile.returncode == 1 and backup.holder in backup.meanwhile.stderr


def test_with_other_keys_it_is_refused_by_the_names_of_the_right_ones(backup: Backup, other: Server) -> None:
    (Path(other.environment["CONSOLE_DATA_DIR"]) / "secrets.env").unlink()
    from tests.test_environment import SECRETS

    refused = manage(other, "restore", backup.file, **SECRETS)
    assert refused.returncode == 1
    assert "Version 1 of DIGEST_KEYS differs from the one that this database was written with" in refused.stderr


def test_what_is_no_backup_is_refused(tmp_path: Path, backup: Backup, other: Server) -> None:
    wrong = tmp_path / "wrong"
    refused = manage(other, "restore", wrong)
    assert (refused.returncode, refused.stderr) == (1, f"CommandError: {wrong} is not a file.\n")
    wrong.write_text("Not a database. " * 1000)
    refused = manage(other, "restore", wrong)
    assert refused.returncode == 1 and "Traceback" not in refused.stderr
    assert manage(other, "restore", backup.file).returncode == 0


@pytest.mark.once
class TestSqlite:
    @pytest.fixture
    def restored(self, backup: Backup, tmp_path: Path) -> Server:
        folder = tmp_path / "data"
        folder.mkdir(0o700)
        shutil.copy(backup.secrets, folder)
        server = Server(folder)
        assert manage(server, "restore", backup.file).returncode == 0
        return server

    def file(self, server: Server) -> Path:
        return Path(server.environment["CONSOLE_DATA_DIR"]) / "console.sqlite3"

    def test_the_file_of_before_stays_beside_it(self, backup: Backup, restored: Server) -> None:
        restored.execute("UPDATE console_user SET email = 'of before'")
        assert manage(restored, "restore", backup.file).returncode == 0
        assert restored.execute("SELECT email FROM console_user") == [("",)]
        with closing(sqlite3.connect(self.file(restored).with_name("console.sqlite3.before"))) as before:
            assert before.execute("SELECT email FROM console_user").fetchall() == [("of before",)]

    @pytest.mark.parametrize("damage", ["a page", "the ledger", "a reference"])
    def test_a_damaged_one_changes_nothing(self, tmp_path: Path, backup: Backup, restored: Server, damage: str) -> None:
        damaged = tmp_path / "damaged"
        shutil.copy(backup.file, damaged)
        if damage == "a page":
            with damaged.open("r+b") as file:
                file.seek(damaged.stat().st_size // 2)
                file.write(bytes(65536))
        with closing(sqlite3.connect(damaged, isolation_level=None)) as database:
            if damage == "the ledger":
                database.executescript(f"{';'.join(tampering.SQLITE)}; {DAMAGE}")
            elif damage == "a reference":
                database.execute("UPDATE apikeys_apikey SET account_id = 4711")
        before = self.file(restored).read_bytes()
        refused = manage(restored, "restore", damaged)
        assert refused.returncode == 1 and refused.stderr.startswith("CommandError: ")
        assert "The ledger of account root cannot be verified" in refused.stderr or damage != "the ledger"
        assert self.file(restored).read_bytes() == before
        assert [*self.file(restored).parent.glob("console.sqlite3*")] == [self.file(restored)]

    def test_a_backup_of_damage_says_so(self, tmp_path: Path, restored: Server) -> None:
        for statement in (*tampering.SQLITE, DAMAGE):
            restored.execute(statement)
        made = manage(restored, "backup", tmp_path / "copy")
        assert made.returncode == 1
        assert f"{tmp_path / 'copy'} was written, but the database in it is not intact." in made.stderr
        assert "The ledger of account root cannot be verified" in made.stderr and (tmp_path / "copy").exists()

    def test_one_of_an_earlier_version_is_migrated(self, tmp_path: Path, restored: Server) -> None:
        *_, before, last = sorted(
            str(name) for (name,) in restored.execute("SELECT name FROM django_migrations WHERE app = 'apikeys'")
        )
        assert manage(restored, "migrate", "apikeys", before).returncode == 0
        made = manage(restored, "backup", tmp_path / "old")
        assert (
            made.returncode == 1
            and "The database does not match this version: migrations are not applied." in made.stderr
        )
        assert manage(restored, "restore", tmp_path / "old").returncode == 0
        assert (last,) in restored.execute("SELECT name FROM django_migrations WHERE app = 'apikeys'")

    def test_none_while_another_process_uses_the_file(self, backup: Backup, restored: Server) -> None:
        with closing(sqlite3.connect(self.file(restored))) as other:
            other.execute("PRAGMA journal_mode=WAL")
            other.execute("SELECT * FROM console_user")
            refused = manage(restored, "restore", backup.file)
        assert refused.returncode == 1 and f"Another process uses {self.file(restored)}" in refused.stderr

    def test_a_file_that_cannot_be_written_is_named(self, tmp_path: Path, restored: Server) -> None:
        made = manage(restored, "backup", tmp_path / "none" / "copy")
        assert made.returncode == 1 and str(tmp_path / "none") in made.stderr and "Traceback" not in made.stderr


@only_postgres
def test_a_database_that_has_something_is_refused(backup: Backup, other: Server) -> None:
    assert manage(other, "restore", backup.file).returncode == 0
    refused = manage(other, "restore", backup.file)
    assert refused.returncode == 1 and "The database is not empty." in refused.stderr


@only_postgres
def test_without_postgresqls_programs_it_says_what_to_install(tmp_path: Path, backup: Backup, other: Server) -> None:
    assert manage(other, "restore", backup.file).returncode == 0
    made = manage(other, "backup", tmp_path / "copy", PATH=str(tmp_path))
    assert made.returncode == 1 and "pg_dump is not installed. Install the PostgreSQL client programs." in made.stderr
    assert not (tmp_path / "copy").exists()


@only_postgres
def test_a_password_is_on_no_command_line(tmp_path: Path, backup: Backup, other: Server) -> None:
    """In the place of pg_dump, a program that shows what it was given."""
    assert manage(other, "restore", backup.file).returncode == 0
    program = tmp_path / "pg_dump"
    program.write_text(
        '#!/bin/sh\nfor word; do case "$word" in --dbname=*) words="$word";; esac; done\n'
        'echo "$words" >&2\ncat "$(echo "$words" | sed "s/.*passfile=\\([^ ]*\\).*/\\1/")" >&2\nexit 1\n'
    )
    program.chmod(0o700)
    url = other.environment["DATABASE_URL"].replace("@", ":s3cr%3Aet%5C@", 1)
    made = manage(other, "backup", tmp_path / "copy", PATH=f"{tmp_path}:/usr/bin:/bin", DATABASE_URL=url)
    first, second = made.stderr.splitlines()
    assert "s3cr" not in first and second == r"*:*:*:*:s3cr\:et\\"
