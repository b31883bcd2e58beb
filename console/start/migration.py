"""The database in the form that this version wants.

SQLite is migrated on a copy, which takes the file's place when it is complete: a migration and the record of it are two
transactions, and a disk that is full after the first leaves a file that cannot be migrated again.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from django.core.management import call_command
from django.db import DatabaseError, connection

from console import schema
from console.start import StartError

STARTING = 0x6B657973  # PostgreSQL's advisory lock


def migrate(file: Path | None) -> None:
    """`file` is SQLite's, None for PostgreSQL, where each migration is one transaction. Raises StartError or
    DatabaseError."""
    if file:
        migrate_sqlite(file)
    elif not up_to_date():
        call_command("migrate", verbosity=0)


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Of the starts on several machines with one PostgreSQL; the data folder has a lock of its own."""
    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [STARTING])
        try:
            yield
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [STARTING])


def migrate_sqlite(file: Path) -> None:
    new = file.with_name(f"{file.name}.new")
    try:
        remove(new)
        if not file.exists():
            migrate_at(new)
            new.replace(file)
        elif not up_to_date():
            connection.close()
            with alone(file) as database:
                with closing(sqlite3.connect(new)) as copy:
                    database.backup(copy)
                migrate_at(new)
                before = file.with_name(f"{file.name}.before")
                before.unlink(missing_ok=True)
                before.hardlink_to(file)
                new.replace(file)
        sync(file.parent)
    except (DatabaseError, sqlite3.Error, OSError) as error:
        remove(new)
        raise StartError(
            f"{file} cannot be migrated, and is as it was: {error}. A migration needs room for a copy."
        ) from error


def up_to_date() -> bool:
    """Whether there is nothing to migrate. Raises StartError where a newer version has migrated."""
    state = schema.state()
    if state == schema.NEWER:
        raise StartError(
            f"The database was {state} of this program. Start that version, or restore the backup from before."
        )
    return not state


@contextmanager
def alone(file: Path) -> Iterator[sqlite3.Connection]:
    """A connection beside which there is no other, nor will be. Raises StartError where there is one."""
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=5, isolation_level=None)) as database:
        try:
            database.execute("PRAGMA journal_mode=DELETE")  # only the last connection can end write-ahead logging
            database.execute("PRAGMA locking_mode=EXCLUSIVE")
            database.execute("BEGIN EXCLUSIVE")
            database.execute("COMMIT")  # keeps the lock, in that mode
        except sqlite3.OperationalError as error:
            raise StartError(
                f"{file} is to be migrated, but another process uses it ({error}). Stop that process, then start again."
            ) from error
        yield database


def migrate_at(new: Path) -> None:
    """Leaves a file that is complete without its log, and on the disk."""
    connection.close()
    before = connection.settings_dict["NAME"]
    connection.settings_dict["NAME"] = str(new)
    try:
        call_command("migrate", verbosity=0)
    finally:
        connection.close()
        connection.settings_dict["NAME"] = before
    with closing(sqlite3.connect(new)) as database:
        database.execute("PRAGMA journal_mode=DELETE")
    sync(new)


def sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def remove(new: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        new.with_name(new.name + suffix).unlink(missing_ok=True)
