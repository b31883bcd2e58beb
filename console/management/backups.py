"""Backups of the database: written and read back, restored and verified. The vault's keys are in none of them."""

import os
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import DatabaseError, connection
from django.utils import timezone
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from console import schema, sqlite_file
from console.accounts import User
from console.ledger import triggers
from console.ledger.chain import BrokenChain, verify
from console.ledger.models import Entry, ledgers
from console.operators import database_restored
from console.recovery import Recovery
from console.sessions.store import Session
from console.start import StartError, lock
from console.vault_keys import VaultKey


class BackupError(Exception):
    """A backup was not written, or not restored; the message says why."""


@contextmanager
def as_backup_error() -> Iterator[None]:
    """Raise any expected error as BackupError."""
    try:
        yield
    except (DatabaseError, ImproperlyConfigured, OSError, StartError, sqlite3.Error, sqlite_file.InUse) as error:
        raise BackupError(str(error)) from error


def back_up(file: Path) -> str:
    """Write a backup, read it back, and return a summary of it. Raises BackupError, whose message says whether there
    is a file."""
    with as_backup_error():
        if file.exists():
            raise BackupError(f"{file} already exists. Choose another name.")
        new = sqlite_file.replacement_for(file)
        try:
            new.touch(mode=0o600)
            if settings.SQLITE_FILE:
                copy_sqlite(settings.SQLITE_FILE, new)
            else:
                dump_postgres(new)
            sqlite_file.replace(file, new)
        finally:
            sqlite_file.remove(new)
    try:
        with as_backup_error(), sqlite_file.django_using(file) if settings.SQLITE_FILE else nullcontext():
            return verified_summary()
    except BackupError as error:
        raise BackupError(f"{file} was written, but the database in it is not intact. {error}") from error


def copy_sqlite(source: Path, new: Path) -> None:
    with closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as database:
        sqlite_file.copy(database, new)


def dump_postgres(new: Path) -> None:
    with conninfo() as database:
        run("pg_dump", "--format=custom", f"--file={new}", f"--dbname={database}")
    run("pg_restore", f"--file={os.devnull}", str(new))  # reads the whole file


def restore(file: Path) -> tuple[str, int]:
    """Replace the database with a backup. Return a summary of it, and how many of its keys were deleted after it and
    are deleted in it too. Raises BackupError; then the SQLite file is unchanged, and the message says what is wrong
    with a PostgreSQL database."""
    with as_backup_error():
        if not file.is_file():
            raise BackupError(f"{file} is not a file.")
        lock.take(settings.DATA_DIR, "restores a backup")
        return restore_sqlite(file, settings.SQLITE_FILE) if settings.SQLITE_FILE else restore_postgres(file)


def restore_sqlite(file: Path, place: Path) -> tuple[str, int]:
    new = sqlite_file.replacement_for(place)
    try:
        copy_sqlite(file, new)
        with sqlite_file.django_using(new):
            found = migrate_and_verify()
        with sqlite_file.exclusive(place) if place.exists() else nullcontext():
            sqlite_file.replace(place, new)
    finally:
        sqlite_file.remove(new)
    return found


def restore_postgres(file: Path) -> tuple[str, int]:
    if connection.introspection.table_names():
        raise BackupError("The database is not empty. Create an empty one, and set DATABASE_URL to it.")
    with conninfo() as database:
        options = ["--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges"]
        run("pg_restore", *options, f"--dbname={database}", str(file))
    return migrate_and_verify()


def migrate_and_verify() -> tuple[str, int]:
    if schema.state() == schema.PENDING:
        call_command("migrate", verbosity=0)
    summary = verified_summary()  # first: nothing below is done to a database that is not this version's
    triggers.install("default")  # the backup may be of a database that had lost them
    Recovery.objects.all().delete()  # links that were used since, or cancelled, would work again
    Session.objects.all().delete()
    User.objects.exclude(invited_at=None).update(invited_at=timezone.now())
    return summary, sum(int(count or 0) for _, count in database_restored.send(None))


def verified_summary() -> str:
    """Verify the whole database, and return a summary of it. Raises BackupError."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            found = cursor.execute("PRAGMA integrity_check").fetchall()
            found += cursor.execute("PRAGMA foreign_key_check").fetchall()
        if damage := [row for row in found if row != ("ok",)]:
            raise BackupError(f"The SQLite file is damaged: {' '.join(map(str, damage[0]))}")
    if state := schema.state():
        raise BackupError(f"The database does not match this version: {state}.")
    VaultKey.check_recorded()
    accounts = User.objects.filter(account=None).count()
    rows = 0
    for ledger in ledgers():
        try:
            rows += verify(ledger.rows.rows()).rows
        except BrokenChain as broken:
            raise BackupError(f"The ledger of {ledger.name} cannot be verified: {broken}") from broken
    last = Entry.objects.order_by("at").values_list("at", flat=True).last()
    return f"root accounts: {accounts}, ledger rows: {rows}, last written: {last or 'never'}"


@contextmanager
def conninfo() -> Iterator[str]:
    """For the PostgreSQL client programs. The password is in a file: every user of the machine sees a command line."""
    parameters = conninfo_to_dict(settings.ENVIRONMENT.database.conninfo)
    password = str(parameters.pop("password", "")).replace("\\", r"\\").replace(":", r"\:")
    with tempfile.NamedTemporaryFile("w") as file:
        if password:
            file.write(f"*:*:*:*:{password}\n")
            file.flush()
            parameters["passfile"] = file.name
        yield make_conninfo("", **parameters)


def run(program: str, *words: str) -> None:
    """Raises BackupError."""
    try:
        ended = subprocess.run([program, *words], capture_output=True, text=True)
    except FileNotFoundError:
        raise BackupError(f"{program} is not installed. Install the PostgreSQL client programs.") from None
    if ended.returncode:
        raise BackupError(f"{program}: {ended.stderr.strip()}")
