"""Replacing the SQLite file atomically: the new file is written beside it, and renamed once it is complete."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from django.db import connection


class InUse(Exception):
    """Another process has the file open; the message says which file."""


def replacement_for(file: Path) -> Path:
    """The path to write its replacement to. The rest of an earlier attempt is removed."""
    new = file.with_name(f"{file.name}.new")
    remove(new)
    return new


def remove(file: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)


@contextmanager
def exclusive(file: Path) -> Iterator[sqlite3.Connection]:
    """The only connection to the file until it is closed. Raises InUse."""
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=5, isolation_level=None)) as database:
        try:
            database.execute("PRAGMA journal_mode=DELETE")  # only the last connection can end write-ahead logging
            database.execute("PRAGMA locking_mode=EXCLUSIVE")
            database.execute("BEGIN EXCLUSIVE")
            database.execute("COMMIT")  # keeps the lock, in that mode
        except sqlite3.OperationalError as error:
            raise InUse(f"Another process uses {file} ({error}). Stop that process, and try again.") from error
        yield database


def copy(source: sqlite3.Connection, new: Path) -> None:
    """Copy the database, readable by its owner only."""
    new.touch(mode=0o600)
    with closing(sqlite3.connect(new)) as database:
        source.backup(database)


@contextmanager
def django_using(new: Path) -> Iterator[None]:
    """Have Django use that file meanwhile. Leaves it complete, without a write-ahead log."""
    connection.close()
    before = connection.settings_dict["NAME"]
    connection.settings_dict["NAME"] = str(new)
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["NAME"] = before
    with closing(sqlite3.connect(new)) as database:
        database.execute("PRAGMA journal_mode=DELETE")


def replace(file: Path, new: Path) -> None:
    """Put `new` in its place, and keep the previous file, if any, as `….before`."""
    sync(new)
    if file.exists():
        before = file.with_name(f"{file.name}.before")
        before.unlink(missing_ok=True)
        before.hardlink_to(file)
    new.replace(file)
    sync(file.parent)


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
