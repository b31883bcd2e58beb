"""Finding a key by its digests with the database's own driver: a fresh answer for each call, nothing kept.

A deletion is seen by every call that arrives after its commit, because each look-up begins after its call arrived.
(A cache emptied by notifications was measured to leak; docs/gateway.md.)

`find(digests, done)` takes the digests of one key, one for each digest key, and calls `done` once: with the key,
with None where there is none, or with a sentence that says why the database cannot be asked.
"""

import asyncio
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import psycopg
from psycopg import pq

from console.vault import MAX_DIGEST_KEYS

QUERY_SECONDS = 2.0
CONNECT_SECONDS = 2
RECONNECT_SECONDS = 0.25
SAME_FILE_SECONDS = 0.05


class Found(NamedTuple):
    key_id: bytes
    account_id: int
    active: bool


Answer = Found | str | None
Done = Callable[[Answer], None]


class Lookup(Protocol):
    def find(self, digests: list[bytes], done: Done) -> None: ...

    async def open(self) -> None:
        """Called once, in the worker's loop, before the first call."""

    def close(self) -> None:
        """Drop the connection."""


class SqliteLookup:
    """Asks within the loop: a look-up takes some microseconds, less than handing it to a thread."""

    # SQLite would take the index that keeps digests unique, and read the row as well.
    QUERY = (
        "SELECT id, account_id, deleted_at IS NULL AND disabled_at IS NULL AND NOT account_disabled"
        " FROM apikeys_apikey INDEXED BY keys_for_the_gate WHERE digest IN (%s)"
    )
    inode: int  # of the file that is open
    looked_at: float  # when that file was last seen at the path

    def __init__(self, path: Path) -> None:
        self.path = path
        self.queries = [self.QUERY % ",".join("?" * count) for count in range(MAX_DIGEST_KEYS + 1)]
        self.connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        """The first call connects."""

    def cursor(self) -> sqlite3.Cursor:
        """To the database file that is there now: one that was moved away or restored goes on answering through
        an open connection."""
        now = time.monotonic()
        if self.connection is None or now - self.looked_at > SAME_FILE_SECONDS:
            inode = os.stat(self.path).st_ino
            if self.connection is None or inode != self.inode:
                self.close()
                # mode=rw: an existing file only. Readers of a WAL database share its memory file, so not mode=ro.
                address = f"{self.path.as_uri()}?mode=rw"
                self.connection = sqlite3.connect(address, uri=True, timeout=1)
                self.connection.execute("PRAGMA query_only = 1")
                self.connection.execute(f"PRAGMA mmap_size = {1 << 30}")
                self.connection.execute(f"PRAGMA cache_size = -{64 << 10}")
                self.open_cursor = self.connection.cursor()
            self.inode, self.looked_at = inode, now
        return self.open_cursor

    def find(self, digests: list[bytes], done: Done) -> None:
        answer: Answer = None
        try:
            # All in one query: a key whose digest is renewed meanwhile has one or the other.
            row = self.cursor().execute(self.queries[len(digests)], digests).fetchone()
            if row:
                answer = Found(bytes.fromhex(row[0]), row[1], row[2] == 1)
        except (OSError, sqlite3.Error) as error:
            self.close()
            answer = str(error)
        done(answer)

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None


def shut(file: int) -> None:
    with socket.socket(fileno=os.dup(file)) as same:
        same.shutdown(socket.SHUT_RDWR)


class PostgresLookup:
    """One query at a time, for all calls that arrived since the last one was sent."""

    NAME = b"find"
    QUERY = (
        b"SELECT digest, id, account_id, deleted_at IS NULL AND disabled_at IS NULL AND NOT account_disabled"
        b" FROM apikeys_apikey WHERE digest = ANY($1::bytea[])"
    )

    def __init__(self, conninfo: str) -> None:
        self.conninfo = conninfo
        self.connection: psycopg.Connection[Any] | None = None
        self.why = "PostgreSQL is not connected yet."  # while there is no connection
        self.waiting: list[tuple[list[bytes], Done]] = []
        self.asked: list[tuple[list[bytes], Done]] = []
        self.found: dict[bytes, Found] | None = None  # what has come of the answer to what was asked

    async def open(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.timer = self.loop.call_later(0, lambda: None)  # of the query under way
        self.connecting = self.loop.create_task(self.connect())
        await asyncio.wait({self.connecting}, timeout=CONNECT_SECONDS)

    async def connect(self) -> None:
        """Until it is connected: also how the gate recovers by itself."""
        while self.connection is None:
            try:
                self.connection = await asyncio.to_thread(self.connected)
            except Exception as error:  # whatever it is, also no room for a thread: the gate goes on trying
                self.why = str(error)
                await asyncio.sleep(RECONNECT_SECONDS)
        self.socket = self.connection.pgconn.socket  # a lost connection no longer tells it
        self.loop.add_reader(self.socket, self.receive)

    def connected(self) -> psycopg.Connection[Any]:
        # A server that vanished is given up by the system too, also while no query is timed here.
        gone = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 5000}
        connection = psycopg.connect(
            self.conninfo,
            autocommit=True,
            connect_timeout=CONNECT_SECONDS,
            **gone,  # type: ignore[arg-type]
        )
        # A proxy may take the connection and pass on nothing.
        hung = threading.Timer(CONNECT_SECONDS, shut, [connection.pgconn.socket])
        hung.start()
        try:
            self.prepare(connection)
        except Exception:
            connection.close()
            raise
        finally:
            hung.cancel()
        return connection

    def prepare(self, connection: psycopg.Connection[Any]) -> None:
        # Planned once (planning each time took a fourth of PostgreSQL's time), and for when there will be many keys.
        connection.execute("SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off")
        prepared = connection.pgconn.prepare(self.NAME, self.QUERY)
        if prepared.status != pq.ExecStatus.COMMAND_OK:
            raise psycopg.OperationalError(prepared.get_error_message())

    def find(self, digests: list[bytes], done: Done) -> None:
        if self.connection is None:
            done(self.why)
            return
        self.waiting.append((digests, done))
        if len(self.waiting) == 1 and not self.asked:
            self.loop.call_soon(self.send)  # once the loop has read all that had arrived

    def send(self) -> None:
        """Ask for every key that waits."""
        if self.connection is None or self.asked or not self.waiting:
            return
        self.asked, self.waiting = self.waiting, []
        array = ",".join(rf'"\\x{digest.hex()}"' for digests, _ in self.asked for digest in digests)
        self.timer = self.loop.call_later(QUERY_SECONDS, self.fail, "PostgreSQL has not answered in time.")
        self.flush([f"{{{array}}}".encode()])

    def flush(self, question: list[bytes] | None = None) -> None:
        """A question longer than the socket's buffer goes in parts."""
        assert self.connection
        try:
            if question:
                self.connection.pgconn.send_query_prepared(self.NAME, question, result_format=1)
            unsent = self.connection.pgconn.flush()
        except psycopg.Error as error:
            self.fail(str(error))
            return
        if unsent:
            self.loop.add_writer(self.socket, self.flush)
        else:
            self.loop.remove_writer(self.socket)

    def receive(self) -> None:
        """Read what has come; once it is whole, answer all that was asked."""
        assert self.connection
        pgconn = self.connection.pgconn
        try:
            pgconn.consume_input()
            while not pgconn.is_busy():
                result = pgconn.get_result()
                if result is None:
                    break
                if result.status != pq.ExecStatus.TUPLES_OK:
                    raise psycopg.OperationalError(result.get_error_message())
                self.found = {}
                for row in range(result.ntuples):
                    digest, key_id, account_id, active = (result.get_value(row, column) or b"" for column in range(4))
                    self.found[digest] = Found(key_id, int.from_bytes(account_id), active == b"\1")
            else:
                return  # the rest is on its way
            if self.found is None:
                raise psycopg.OperationalError("The connection to PostgreSQL was lost.")
        except psycopg.Error as error:
            self.fail(str(error))
            return
        asked, found, self.asked, self.found = self.asked, self.found, [], None
        self.timer.cancel()
        for digests, done in asked:
            done(next((found[digest] for digest in digests if digest in found), None))
        self.send()

    def fail(self, why: str) -> None:
        """Answer nobody from a connection in doubt; connect anew."""
        self.close()
        self.why = why
        unanswered = self.asked + self.waiting
        self.asked, self.waiting, self.found = [], [], None
        self.connecting = self.loop.create_task(self.connect())
        for _, done in unanswered:
            done(why)

    def close(self) -> None:
        self.timer.cancel()
        self.connecting.cancel()
        if self.connection is not None:
            self.loop.remove_reader(self.socket)
            self.loop.remove_writer(self.socket)
            self.connection.close()
            self.connection = None
