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
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from console import schema, sqlite_file
from console.accounts import User
from console.ledger.chain import BrokenChain, verify
from console.ledger.models import Entry
from console.operators import database_restored
from console.start import StartError, lock
from console.vault_keys import VaultKey


class BackupError(Exception):
    """There is no backup, or it is not restored; the message says why."""


@contextmanager
def told() -> Iterator[None]:
    """Whatever goes wrong, as BackupError."""
    try:
        yield
    except (DatabaseError, ImproperlyConfigured, OSError, StartError, sqlite3.Error, sqlite_file.InUse) as error:
        raise BackupError(str(error)) from error


def back_up(file: Path) -> str:
    """Write it, read it back, and say what is in it. Raises BackupError, whose message says if there is a file."""
    with told():
        if file.exists():
            raise BackupError(f"{file} exists. Choose another name.")
        new = sqlite_file.beside(file)
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
        with told(), sqlite_file.django_on(file) if settings.SQLITE_FILE else nullcontext():
            return content()
    except BackupError as error:
        raise BackupError(f"{file} is a copy of the database, but there is something wrong with it. {error}") from error


def copy_sqlite(source: Path, new: Path) -> None:
    with closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as database:
        sqlite_file.copy(database, new)


def dump_postgres(new: Path) -> None:
    with conninfo() as database:
        run("pg_dump", "--format=custom", f"--file={new}", f"--dbname={database}")
    run("pg_restore", f"--file={os.devnull}", str(new))  # reads all of it


def restore(file: Path) -> tuple[str, int]:
    """In the place of the database, and say what is in it, and how many keys were deleted in it. Raises BackupError;
    then SQLite's file is as it was, and the message says what is wrong with PostgreSQL's database."""
    with told():
        if not file.is_file():
            raise BackupError(f"There is no file {file}.")
        lock.take(settings.DATA_DIR, "restores a backup")
        return restore_sqlite(file, settings.SQLITE_FILE) if settings.SQLITE_FILE else restore_postgres(file)


def restore_sqlite(file: Path, place: Path) -> tuple[str, int]:
    new = sqlite_file.beside(place)
    try:
        copy_sqlite(file, new)
        with sqlite_file.django_on(new):
            found = migrated_content()
        with sqlite_file.alone(place) if place.exists() else nullcontext():
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
    return migrated_content()


def migrated_content() -> tuple[str, int]:
    """What is in it, and how many keys were deleted in it, because they had been deleted since."""
    if schema.state() == schema.PENDING:
        call_command("migrate", verbosity=0)
    return content(), sum(int(count or 0) for _, count in database_restored.send(None))


def content() -> str:
    """What the database has, once all of it is verified. Raises BackupError."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            found = cursor.execute("PRAGMA integrity_check").fetchall()
            found += cursor.execute("PRAGMA foreign_key_check").fetchall()
        if found != [("ok",)]:
            raise BackupError(f"SQLite finds the file damaged: {found[0]}")
    if state := schema.state():
        raise BackupError(f"The database is of another version: {state}.")
    VaultKey.check_recorded()
    accounts = User.objects.filter(account=None)
    rows = 0
    for account in accounts:
        try:
            rows += verify(Entry.objects.filter(account=account).rows()).rows
        except BrokenChain as broken:
            raise BackupError(f"The ledger of {account} does not verify: {broken}") from broken
    last = Entry.objects.order_by("at").values_list("at", flat=True).last()
    return f"{len(accounts)} root accounts, {rows} rows of the ledger, the last of {last or 'never'}"


@contextmanager
def conninfo() -> Iterator[str]:
    """For PostgreSQL's programs. The password is in a file: everyone on the machine sees a command line."""
    parameters = conninfo_to_dict(settings.ENVIRONMENT.postgres_conninfo)
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
        raise BackupError(f"{program} is missing. Install PostgreSQL's client programs.") from None
    if ended.returncode:
        raise BackupError(f"{program}: {ended.stderr.strip()}")
