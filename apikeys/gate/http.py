"""HTTP/1.1 for the gate: connections, which answer calls in the order in which they came, and what they share."""

import asyncio
import time
from email.utils import formatdate
from enum import Enum, auto
from typing import cast

from apikeys.gate.app import Gate
from apikeys.gate.balance import Share
from apikeys.gate.call import Answer, Call, Handle
from apikeys.gate.metrics import Metrics
from apikeys.gate.parser import NOTHING, Parser
from console.proxies import UNIX

REQUEST_SECONDS = 10  # for a call to arrive completely, and for an answer to be taken
IDLE_SECONDS = 75  # longer than a proxy keeps its connections to the gate, or it would send calls to closed ones
LINGER_SECONDS = 2
READ_BYTES = 4 << 10  # at once from one connection: what the loop parses before it turns to the others
MAX_EXCESS = 32  # connections past the limit that are still answered, with 503; the others are cut off

TOO_MANY = "Too many connections at the moment. Try again."


class Server:
    """What the connections of one worker have in common."""

    def __init__(self, gate: Gate, metrics: Metrics, share: Share, max_connections: int) -> None:
        self.gate, self.metrics, self.share, self.max_connections = gate, metrics, share, max_connections
        self.loop = asyncio.get_running_loop()
        self.connections: set[Connection] = set()
        self.seconds = -1  # since the start; a clock that costs nothing to read
        self.draining = False
        self.buffer = memoryview(bytearray(READ_BYTES))  # for what is read from any of them, and parsed at once
        self.tick()

    def add(self, connection: "Connection") -> int:
        """How many there are then above the limit."""
        self.connections.add(connection)
        self.share.has_open(len(self.connections))
        return len(self.connections) - self.max_connections

    def discard(self, connection: "Connection") -> None:
        self.connections.discard(connection)
        self.share.has_open(len(self.connections))

    def tick(self) -> None:
        """To be called once a second."""
        self.seconds += 1
        date = formatdate(usegmt=True).encode()
        self.lines = b"date: %b\r\ncache-control: no-store\r\n" % date  # of every answer
        self.close_overdue(IDLE_SECONDS)

    def close_overdue(self, idle_seconds: int) -> None:
        for connection in list(self.connections):
            connection.close_if_overdue(idle_seconds)


class FlowControl:
    """Reading is paused while calls wait for their answers, answering while the caller takes none."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.reading_paused = False
        self.writing_paused = False  # set by the transport

    def pause_reading(self) -> None:
        """What is sent meanwhile waits in the socket."""
        self.reading_paused = True
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self.reading_paused:
            self.reading_paused = False
            self.transport.resume_reading()


class State(Enum):
    """What a connection still does."""

    OPEN = auto()  # reads and answers calls
    FINISHING = auto()  # reads no more; answers the calls that have arrived, then says what was wrong, or closes
    LINGERING = auto()  # has answered, and discards what the caller still sends
    CLOSING = auto()  # sends what is left, if the caller takes it


OPEN, FINISHING, LINGERING, CLOSING = State


class Connection(asyncio.BufferedProtocol):
    """One caller, whose calls are answered in the order in which they came, one in each turn of the loop."""

    def __init__(self, server: Server, handle: Handle) -> None:
        self.server, self.handle = server, handle
        self.state = OPEN
        self.call: Call | None = None  # that is being answered
        self.since = server.seconds  # when a call last began to arrive or was answered

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's do not inherit from it
        self.flow = FlowControl(self.transport)
        peer = transport.get_extra_info("peername")
        self.parser = Parser(peer[0] if isinstance(peer, tuple) else UNIX, self)
        self.calls = self.parser.calls
        excess = self.server.add(self)
        self.over_limit = excess > 0
        if excess > MAX_EXCESS:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.state = CLOSING
        self.server.discard(self)

    def eof_received(self) -> bool:
        """A caller that will send no more may still wait for answers; whether it does."""
        if self.state is OPEN:
            self.state = FINISHING
        return self.call is not None or bool(self.calls)

    def pause_writing(self) -> None:
        self.flow.writing_paused = True

    def resume_writing(self) -> None:
        self.flow.writing_paused = False
        self.answer_next()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.server.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self.state is not OPEN:
            return
        busy = self.call is not None or bool(self.calls) or self.flow.writing_paused
        self.parser.feed(self.server.buffer[:nbytes])
        if self.parser.error or self.parser.upgraded:
            self.state = FINISHING
        if not busy:
            self.answer_next()
        if busy or self.calls:
            self.flow.pause_reading()

    def on_begin(self) -> None:
        self.since = self.server.seconds

    def on_expect(self) -> None:
        if self.call is None and not self.calls:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def answer_next(self) -> None:
        """Answer the next call; where there is none, read on."""
        if self.transport.is_closing():
            return  # the caller has left
        if self.calls:
            self.call = call = self.calls.popleft()
            call.began_at = time.perf_counter()
            if self.over_limit:
                limit = f"more than {self.server.max_connections} connections at once (GATE_MAX_CONNECTIONS)"
                self.reply(self.server.gate.unavailable(limit, TOO_MANY))
            else:
                self.handle(call, self.reply)
        elif self.parser.error:
            self.end(self.parser.error)
        else:
            self.flow.resume_reading()

    def reply(self, answer: Answer) -> None:
        call, self.call = self.call, None
        if call is None or self.transport.is_closing():
            return  # the caller has left
        last = self.state is not OPEN and not self.calls and not self.parser.error
        keep = call.keep_alive and not (last or self.over_limit or self.server.draining)
        self.transport.write(
            b"HTTP/1.1 %b\r\n%bcontent-length: %d\r\n%b%b\r\n%b"
            % (
                answer.status,
                self.server.lines,
                len(answer.body),
                answer.headers,
                b"" if keep else b"connection: close\r\n",
                b"" if call.is_head else answer.body,
            )
        )
        self.since = self.server.seconds
        self.server.metrics.answered(answer.label, time.perf_counter() - call.began_at)
        if not keep:
            self.close()
        elif not self.flow.writing_paused and (self.calls or self.parser.error or self.flow.reading_paused):
            self.server.loop.call_soon(self.answer_next)  # after the other connections had their turn

    def close(self) -> None:
        self.state = CLOSING
        self.transport.close()

    def end(self, status: bytes) -> None:
        """Say what was wrong and discard what the caller still sends for a while: if the connection was closed at once,
        it would be reset and the answer lost (RFC 9112, 9.6)."""
        self.state, self.since = LINGERING, self.server.seconds
        self.transport.write(b"HTTP/1.1 %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status)
        self.transport.write_eof()
        self.flow.resume_reading()

    def close_if_overdue(self, idle_seconds: int) -> None:
        """Close it where its call does not arrive, its answers are not taken, or nothing is asked for so long."""
        waited = self.server.seconds - self.since
        if self.flow.writing_paused or self.transport.is_closing():
            if waited > REQUEST_SECONDS:
                self.transport.abort()
        elif self.state is LINGERING:
            if waited > LINGER_SECONDS:
                self.close()
        elif self.call is not None or self.calls:
            return
        elif self.parser.reading is not NOTHING:
            if waited > REQUEST_SECONDS:
                self.end(b"408 Request Timeout")
        elif waited > (min(idle_seconds, REQUEST_SECONDS) if self.over_limit else idle_seconds):
            self.close()
