"""The digests of deleted keys, in a file outside the database: a key in it is denied, whatever the database says.

Each deletion appends a line with its time, the key's id and its digest. Free of Django, because the gate asks for them
on every call. Why it is done this way: docs/decisions/0018-deleted-keys-outside-the-database.md.
"""

import logging
import os
import re
from binascii import unhexlify
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

logger = logging.getLogger(__name__)

LINE = re.compile(rb"^\S{20} ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}) ([0-9a-f]{64})$", re.MULTILINE)
PIECE = 1 << 20  # bytes that are read at once
MISSING = "the file of deleted keys is missing"
UNREADABLE = "the file of deleted keys cannot be read"
LOST = "the file of deleted keys has lost some of its lines"


class Tombstone(NamedTuple):
    at: datetime
    key_id: UUID
    digest: bytes

    @property
    def line(self) -> bytes:
        return f"{self.at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ} {self.key_id} {self.digest.hex()}\n".encode()


def append(path: Path, tombstones: Iterable[Tombstone]) -> None:
    """They are on the disk when this returns. Several programs may append at once: a line is one write. Raises
    OSError."""
    lines = b"".join(tombstone.line for tombstone in tombstones)
    path.parent.mkdir(parents=True, exist_ok=True)  # for its user alone, as every program's umask has it
    # unnoticed mutants (1): the umask takes the bit for others away.
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        size = share(file, path.parent)
        # unnoticed mutants (1): there is one byte more.
        if size and os.pread(file, 1, size - 1) != b"\n":  # a crash or a full disk left half a line
            lines = b"\n" + lines
        while lines:
            lines = lines[os.write(file, lines) :]
        os.fsync(file)
    finally:
        os.close(file)
    # unnoticed mutants (1): only a power failure shows it.
    if not size:
        sync_folder(path.parent)


def share(file: int, folder: Path) -> int:
    """Let the folder's group do with a new file what it may do there: console, gate and `meter` may each be another
    user. The file's size."""
    found = os.fstat(file)
    missing = folder.stat().st_mode & 0o060 & ~found.st_mode
    if missing and not found.st_size:
        os.fchmod(file, 0o600 | missing)
    return found.st_size


def note(path: Path, tombstone: Tombstone) -> None:
    """Append it. Where that fails the deletion holds all the same, and is noted later (apikeys.keys.deletions)."""
    try:
        append(path, [tombstone])
    except OSError as error:
        logger.error("%s: the deletion of an API key could not be noted: %s", path, error)


def sync_folder(folder: Path) -> None:
    """So that a new file in it is there after a power failure."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def read(path: Path) -> Iterator[tuple[UUID, bytes]]:
    """The ids and digests in that file; what is no whole line is left out. Raises OSError."""
    with path.open("rb") as file:
        for line in file:
            if found := LINE.match(line):
                yield UUID(found[1].decode()), unhexlify(found[2])


class Tombstones:
    """The digests in that file, followed while it grows. What was in it once is known for as long as this lives, also
    where the file is gone, cut or replaced since; `problem` says so in one line, without a path."""

    problem: str
    lost: set[bytes]  # those of the known that the file has no more
    size: int  # of the file, when it was last read
    taken: int  # bytes of it, up to the end of its last whole line

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: set[bytes] = set()
        self.file: int | None = None
        self.look()

    def have(self, digests: list[bytes]) -> bool:
        """Whether any of them is of a deleted key, as the file is now."""
        # unnoticed mutants (1): the same, and slower. (An offset takes a fourth of what `fstat` does.)
        if self.file is None or os.lseek(self.file, 0, os.SEEK_END) != self.size:
            self.look()
        return not self.known.isdisjoint(digests)

    def look(self) -> None:
        """At the file that is at the path now, which may be another one, and at what it has more."""
        try:
            found = os.stat(self.path)
            if self.file is None or not os.path.samestat(found, os.fstat(self.file)):
                self.close()
                self.file = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
                self.begin()
            self.read_on(self.file)
            self.problem = LOST if self.lost else ""
        except OSError as error:
            self.close()
            missing = isinstance(error, FileNotFoundError)
            self.problem = MISSING if missing else f"{UNREADABLE}: {error.strerror}"

    def begin(self) -> None:
        self.lost = set(self.known)
        self.size = self.taken = 0

    def read_on(self, file: int) -> None:
        size = os.lseek(file, 0, os.SEEK_END)
        # unnoticed mutants (1): the same, and slower.
        if size < self.size:
            self.begin()
        while lines := self.more_lines(file):
            new = {unhexlify(digest) for _, digest in LINE.findall(lines)}
            self.known |= new
            self.lost -= new
            self.taken += len(lines)
        self.size = size

    def more_lines(self, file: int) -> bytes:
        """Half a line at the end is left until the rest is there; a piece without an end is no line of ours."""
        piece = os.pread(file, PIECE, self.taken)
        # unnoticed mutants (1): the same, and slower.
        return piece[: piece.rfind(b"\n") + 1] or (piece if len(piece) == PIECE else b"")

    def close(self) -> None:
        if self.file is not None:
            os.close(self.file)
            self.file = None
