"""Counting calls without a database write for each: every gate worker counts in a memory-mapped file of its own.

A file covers a few seconds of calls. Its worker holds a lock on it while it counts; whoever gets the lock afterwards
(apikeys.metering.fold) may add the whole file to the database, once, and remove it. A count is in the operating
system's page cache at once, so `kill -9` of the worker loses nothing.
"""

import fcntl
import mmap
import os
import secrets
import socket
import sys
import time
from contextlib import suppress
from functools import lru_cache
from ipaddress import IPv6Address
from itertools import takewhile
from pathlib import Path
from struct import Struct
from tempfile import TemporaryFile

MAGIC = b"calls-1\0"
SUFFIX, NEW_SUFFIX = ".calls", ".new"
NAME_BYTES = 16  # in hexadecimal: the Unix time (4), the others random
RECORD = Struct("=16s3Q16s8x")
SLOT = RECORD.size
WORDS = SLOT // 8
SLOTS = 8192  # then the next file begins
HOUR = 3600
NO_KEY = NO_ADDRESS = bytes(16)

# One key in one file: its id, accepted calls, refused calls, Unix time of the last accepted call (0 where there is
# none), and the address that it came from (as IPv6).
Record = tuple[bytes, int, int, int, bytes]


def pack_address(address: str) -> bytes:
    """An IP address as 16 bytes, IPv4 mapped into IPv6 (RFC 4291, 2.5.5.2); all zero where it is none."""
    for family, prefix in ((socket.AF_INET, bytes(10) + b"\xff\xff"), (socket.AF_INET6, b"")):
        try:
            return prefix + socket.inet_pton(family, address)
        except OSError:
            continue
    return NO_ADDRESS


@lru_cache(4096)
def unpack_address(packed: bytes) -> str:
    """The reverse of `pack_address`; empty where there is no address."""
    ip = IPv6Address(packed)
    return "" if packed == NO_ADDRESS else str(ip.ipv4_mapped or ip)


class CallCounter:
    """The writer: one for each gate worker, created after the fork."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.slots: dict[bytes, int] = {}
        self.hour = -1
        self.memory: mmap.mmap | None = None
        self.file = -1

    def count(self, key_id: bytes, accepted: bool, address: bytes) -> None:
        """Count one call of that key, from a packed address. Raises OSError where it cannot be counted; then the call
        must be refused."""
        now = int(time.time())
        slot = self.slots.get(key_id)
        if slot is None or now // HOUR != self.hour:
            slot = self.new_slot(key_id, now // HOUR)
        word = slot * WORDS
        if accepted:
            # One aligned store each, so that no kill leaves half a number behind.
            self.words[word + 2] += 1
            self.words[word + 4] = now
            start = slot * SLOT + 40
            self.bytes[start : start + 16] = address
        else:
            self.words[word + 3] += 1

    def new_slot(self, key_id: bytes, hour: int) -> int:
        if hour != self.hour or len(self.slots) == SLOTS - 1:
            self.close()
        if self.memory is None:
            self.open(hour)
        slot = len(self.slots) + 1  # the first holds the header
        self.bytes[slot * SLOT : slot * SLOT + 16] = key_id
        self.slots[key_id] = slot
        return slot

    def open(self, hour: int) -> None:
        """Begin the next file, under another name until it is locked and complete."""
        began = int(time.time())
        path = self.folder / f"{began:08x}{secrets.token_hex(NAME_BYTES - 4)}{SUFFIX}"
        unfinished = path.with_suffix(NEW_SUFFIX)
        self.file = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            if group := self.folder.stat().st_mode & 0o060:  # `meter` may be another user, of the folder's group
                os.fchmod(self.file, 0o600 | group)
            fcntl.flock(self.file, fcntl.LOCK_EX)
            os.posix_fallocate(self.file, 0, SLOTS * SLOT)  # a full disk is an error now, not a signal later
            self.memory = mmap.mmap(self.file, SLOTS * SLOT)
            self.bytes = memoryview(self.memory)
            self.words = self.bytes.cast("Q")
            self.bytes[: len(MAGIC)] = MAGIC
            self.words[1] = self.hour = hour
            self.words[2] = began
            unfinished.rename(path)
        except OSError:
            self.close()
            with suppress(OSError):
                unfinished.unlink()
            raise

    def check(self) -> None:
        """Raise OSError where there is no room for another file, or no right to create it."""
        with TemporaryFile(dir=self.folder) as file:
            os.posix_fallocate(file.fileno(), 0, SLOTS * SLOT)

    def close(self) -> None:
        """Finish the file, if there is one: from now on it may be folded."""
        self.slots.clear()
        self.hour = -1
        if self.memory is not None:
            self.words.release()
            self.bytes.release()
            self.memory.close()
            self.memory = None
        if self.file >= 0:
            os.close(self.file)
            self.file = -1


def began_at(name: str) -> int:
    """When the file of that name was begun (Unix time); 0 where it is no file of counted calls."""
    try:
        return int(name[:8], 16) if name.endswith(SUFFIX) else 0
    except ValueError:
        return 0


def read_calls(data: bytes) -> tuple[int, list[Record]]:
    """What a file holds: its hour (since the epoch) and its records. Raises ValueError where it is no such file."""
    if data[: len(MAGIC)] != MAGIC:
        raise ValueError("not a file of counted calls")
    if len(data) % SLOT:
        raise ValueError("truncated")
    records = RECORD.iter_unpack(memoryview(data)[SLOT:])
    return int.from_bytes(data[8:16], sys.byteorder), list(takewhile(lambda record: record[0] != NO_KEY, records))
