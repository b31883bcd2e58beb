"""Whether what holds the data can be used: its disk, its folder, its file and its log, told apart. Every answer is one
line, for an operator and without a path, as anyone may ask for it; "" where all is well."""

import errno
import os
import secrets
import sqlite3
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from django.conf import settings
from django.db import Error, connection, transaction
from django.utils import timezone

from console.sessions.store import Session

ROOM_BYTES = 1 << 20  # of the disk, that a commit may need
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
CHECK_SECONDS = 1.0  # that an answer waits for the check of a file
PAUSE_FACTOR = 20  # a check takes at most a twentieth of the time
OWN_FILES = Path("/proc/self/fd")


def sqlite_file() -> Path | None:
    """The database's file, also where it cannot be opened."""
    name = str(connection.settings_dict["NAME"])
    if connection.vendor != "sqlite":
        return None
    return Path(unquote(urlsplit(name).path) if name.startswith("file:") else name).resolve()


def file_problem() -> str:
    """Of SQLite's files, without asking the database."""
    file = sqlite_file()
    return (removed(file) or unwritable(file.parent) or integrity.problem(file)) if file else ""


def removed(file: Path) -> str:
    """Whether this process goes on with a file that has no name any more: what is committed to it will be lost."""
    if not file.exists():
        return "the database file is missing"
    open_files = set()
    with suppress(OSError):
        for entry in os.listdir(OWN_FILES):
            with suppress(OSError):  # closed meanwhile
                open_files.add(os.readlink(OWN_FILES / entry))
    for suffix in ("", "-wal", "-shm"):
        if f"{file}{suffix} (deleted)" in open_files:
            return f"the database's file {file.name}{suffix} was removed while in use: restart every program"
    return ""


def deletions_problem() -> str:
    """Whether the file of deleted keys can be written. One that is not there yet is made by the first deletion."""
    file: Path = settings.DELETED_KEYS_FILE
    place = next(place for place in (file, *file.parents) if place.exists())
    return "" if os.access(place, os.W_OK, effective_ids=True) else "the file of deleted keys is not writable"


def unwritable(folder: Path) -> str:
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            os.posix_fallocate(probe.fileno(), 0, ROOM_BYTES)
    except OSError as error:
        what = "the disk is full" if error.errno in FULL else "the database's folder is not writable"
        return f"{what}: {error.strerror}"
    return ""


class Integrity:
    """SQLite's own check of a file, again whenever the file has changed, in a thread: a large one takes long."""

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(max_workers=1)
        self.checked: object = None  # which state of the file
        self.result: Future[str] | None = None
        self.rests_until = 0.0

    def problem(self, file: Path) -> str:
        """As far as is known within a second."""
        stat = file.stat()
        state = (file, stat.st_ino, stat.st_size, stat.st_mtime_ns)
        idle = self.result is None or self.result.done()
        if idle and state != self.checked and time.monotonic() >= self.rests_until:
            self.checked, self.result = state, self.thread.submit(self.check, file)
        assert self.result
        try:
            return self.result.result(CHECK_SECONDS)
        except TimeoutError:
            return ""

    def check(self, file: Path) -> str:
        """On a connection of its own, which has no page in memory."""
        began = time.monotonic()
        try:
            with closing(sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=1)) as connection:
                (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.OperationalError as error:
            self.checked = None  # it says nothing of the file's content
            return f"the database file cannot be read: {error}"
        except sqlite3.DatabaseError as error:
            found = str(error)
        finally:
            self.rests_until = time.monotonic() + PAUSE_FACTOR * (time.monotonic() - began)
        return "" if found == "ok" else f"the database file is damaged: {' '.join(found.split())}"


integrity = Integrity()


def write_problem() -> str:
    """A row is written, and taken back."""
    try:
        with transaction.atomic():
            Session.objects.create(session_key=secrets.token_hex(16), expire_date=timezone.now())
            transaction.set_rollback(True)
    except Error as error:
        # What PostgreSQL says may name hosts, roles and files.
        why = str(error) if connection.vendor == "sqlite" else type(error.__cause__).__name__
        return f"the database cannot be written: {why}"
    return ""
