"""The look-up in PostgreSQL: one query at a time, for all calls that arrived since the last one was sent."""

import asyncio
import os
import socket
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import psycopg
from psycopg import pq

from apikeys.gate.lookup import UNKNOWN, Done, Found, Unavailable

QUERY_SECONDS = 2.0
CONNECT_SECONDS = 2
RECONNECT_SECONDS = 0.25
# The system gives up a server that vanished, even while no query is timed (PostgreSQL's manual, 34.1.2).
KEEPALIVE = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 5000}
# Planned once (planning each time took a fourth of PostgreSQL's time), and as for many keys.
SETTINGS = b"SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off"
STATEMENT = b"find"
QUERY = (
    b"SELECT digest, id, account_id, deleted_at IS NOT NULL, disabled_at IS NOT NULL OR account_disabled, expires_at"
    b" FROM apikeys_apikey WHERE digest = ANY($1::bytea[])"
)
Connection = psycopg.Connection[Any]
EPOCH = 946_684_800 * 10**6  # PostgreSQL's times are microseconds since 2000-01-01, in UTC


class Question(NamedTuple):
    digests: list[bytes]
    done: Done


def found_in(result: pq.abc.PGresult) -> dict[bytes, Found]:
    """The keys of an answer in binary form, by digest."""
    found = {}
    for row in range(result.ntuples):
        digest, key_id, account_id, deleted, disabled, expires = (result.get_value(row, n) or b"" for n in range(6))
        expires_at = (int.from_bytes(expires, signed=True) + EPOCH) / 10**6 if expires else None
        found[digest] = Found(key_id, int.from_bytes(account_id), deleted != b"\0", disabled != b"\0", expires_at)
    return found


def shut_down(descriptor: int) -> None:
    """End a socket's connection, and leave the socket to its owner."""
    with socket.socket(fileno=os.dup(descriptor)) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)


def connect(conninfo: str, first: Callable[[Connection], object]) -> Connection:
    """A new connection, on which `first` was done: a proxy may accept it and pass nothing on."""
    # unnoticed mutants (3): how long a server that vanished is waited for; that takes a dead network to see.
    connection = psycopg.connect(
        conninfo,
        autocommit=True,
        connect_timeout=CONNECT_SECONDS,
        **KEEPALIVE,  # type: ignore[arg-type]
    )
    watchdog = threading.Timer(CONNECT_SECONDS, shut_down, [connection.pgconn.socket])
    watchdog.start()
    try:
        first(connection)
    except Exception:
        connection.close()
        raise
    finally:
        watchdog.cancel()
    return connection


def prepare(connection: Connection) -> None:
    connection.execute(SETTINGS)
    prepared = connection.pgconn.prepare(STATEMENT, QUERY)
    if prepared.status != pq.ExecStatus.COMMAND_OK:
        raise psycopg.OperationalError(prepared.get_error_message())


class PostgresLookup:
    def __init__(self, conninfo: str) -> None:
        self.conninfo = conninfo
        self.connection: Connection | None = None
        self.reason = "PostgreSQL is not connected yet."  # why there is no connection
        self.waiting: list[Question] = []  # to be sent
        self.sent: list[Question] = []
        self.found: dict[bytes, Found] | None = None  # the answer to what was sent, as far as it has come

    async def open(self) -> None:
        self.loop = asyncio.get_running_loop()
        # unnoticed mutants (2): it only has to be there; nothing depends on what it does.
        self.timer = self.loop.call_later(0, lambda: None)  # of the query under way
        self.connecting = self.loop.create_task(self.connect())
        await asyncio.wait({self.connecting}, timeout=CONNECT_SECONDS)

    async def connect(self) -> None:
        """Try until there is a connection: this is also how the gate recovers by itself."""
        while self.connection is None:
            try:
                self.connection = await asyncio.to_thread(connect, self.conninfo, prepare)
            except Exception as error:  # whatever it is (also no room for a thread), the gate goes on trying
                self.reason = str(error)
                await asyncio.sleep(RECONNECT_SECONDS)
        self.socket = self.connection.pgconn.socket  # which a lost connection no longer knows
        self.loop.add_reader(self.socket, self.receive)

    def find(self, digests: list[bytes], done: Done) -> None:
        if self.connection is None:
            done(Unavailable(self.reason))
            return
        self.waiting.append(Question(digests, done))
        # unnoticed mutants (1): while a query is under way, `send` does nothing.
        if len(self.waiting) == 1 and not self.sent:
            self.loop.call_soon(self.send)  # after the loop has read whatever else has arrived

    def send(self) -> None:
        """Ask for every key that waits."""
        if self.connection is None or self.sent or not self.waiting:
            return
        self.sent, self.waiting = self.waiting, []
        array = ",".join(rf'"\\x{digest.hex()}"' for question in self.sent for digest in question.digests)
        self.timer = self.loop.call_later(QUERY_SECONDS, self.fail, "PostgreSQL has not answered in time.")
        self.flush([f"{{{array}}}".encode()])

    def flush(self, parameters: list[bytes] | None = None) -> None:
        """Send the query, or what is left of it: one longer than the socket's buffer goes in parts."""
        assert self.connection
        try:
            if parameters:
                self.connection.pgconn.send_query_prepared(STATEMENT, parameters, result_format=1)
            unsent = self.connection.pgconn.flush()
        except psycopg.Error as error:
            self.fail(str(error))
            return
        if unsent:
            self.loop.add_writer(self.socket, self.flush)
        else:
            self.loop.remove_writer(self.socket)

    def receive(self) -> None:
        """Read what has arrived; once the answer is complete, answer all that was sent."""
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
                self.found = found_in(result)
            else:
                return  # the rest is still to come
            if self.found is None:
                raise psycopg.OperationalError("The connection to PostgreSQL was lost.")
        except psycopg.Error as error:
            self.fail(str(error))
            return
        sent, found, self.sent, self.found = self.sent, self.found, [], None
        self.timer.cancel()
        for digests, done in sent:
            done(next((found[digest] for digest in digests if digest in found), UNKNOWN))
        self.send()

    def fail(self, reason: str) -> None:
        """Accept no answer from a connection that is in doubt; make another."""
        self.close()
        self.reason = reason
        unanswered = self.sent + self.waiting
        self.sent, self.waiting, self.found = [], [], None
        self.connecting = self.loop.create_task(self.connect())
        for question in unanswered:
            question.done(Unavailable(reason))

    def close(self) -> None:
        self.timer.cancel()
        self.connecting.cancel()
        if self.connection is not None:
            self.loop.remove_reader(self.socket)
            self.loop.remove_writer(self.socket)
            self.connection.close()
            self.connection = None
