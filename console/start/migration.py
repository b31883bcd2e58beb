"""Migrating the database to the form that this version needs.

SQLite is migrated on a copy, which takes the file's place when it is complete: a migration and the record of it are two
transactions, and a disk that is full after the first leaves a file that cannot be migrated again.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.core.management import call_command
from django.db import DatabaseError, connection

from console import schema, sqlite_file
from console.start import StartError

STARTING = 0x6B657973  # PostgreSQL's advisory lock


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


def migrate(file: Path | None) -> None:
    """`file` is SQLite's, None for PostgreSQL, where each migration is one transaction. Raises StartError or
    DatabaseError."""
    if file:
        migrate_sqlite(file)
    elif not up_to_date():
        call_command("migrate", verbosity=0)


def migrate_sqlite(file: Path) -> None:
    new = sqlite_file.replacement_for(file)
    try:
        if not file.exists():
            migrate_at(new)
            sqlite_file.replace(file, new)
        elif not up_to_date():
            connection.close()
            with sqlite_file.exclusive(file) as database:
                sqlite_file.copy(database, new)
                migrate_at(new)
                sqlite_file.replace(file, new)
    except (DatabaseError, sqlite3.Error, OSError) as error:
        sqlite_file.remove(new)
        raise StartError(
            f"{file} cannot be migrated: {error}. It is unchanged. Make room on the disk for a copy, and start again."
        ) from error
    except sqlite_file.InUse as error:
        raise StartError(f"{file} must be migrated. {error}") from error


def migrate_at(new: Path) -> None:
    with sqlite_file.django_using(new):
        call_command("migrate", verbosity=0)


def up_to_date() -> bool:
    """Whether there is nothing to migrate. Raises StartError where a newer version has migrated the database."""
    state = schema.state()
    if state == schema.NEWER:
        raise StartError(f"The database was {state}. Start that version, or restore a backup from before the upgrade.")
    return not state
