"""HTTP/1.1 for the gate, as a worker class of gunicorn: one loop (uvloop), one parser (httptools, which is llhttp).

gunicorn starts, watches and restarts the workers. docs/gateway.md has what the other worker classes were measured to
cost. A call's body is read and thrown away; its headers may not be longer than a gateway lets through.
"""

import asyncio
import os
import resource
import signal
import socket
import time
from collections import deque
from contextlib import suppress
from email.utils import formatdate
from typing import cast

import httptools
import uvloop
from gunicorn.workers.base import Worker

from apikeys.gate.app import Headers, refuse
from apikeys.gate.metrics import Metrics
from console import settings

MAX_HEADER_BYTES = 32 << 10
MAX_BODY_BYTES = 1 << 20
REQUEST_SECONDS = 10  # for a call to arrive whole
IDLE_SECONDS = 75  # longer than a proxy keeps its connections to here, which otherwise meets closed ones
LINGER_SECONDS = 2
RESERVED_FILES = 64  # of those that a worker may open, for other things than callers
DRAIN_IDLE_SECONDS = 0.5
DRAIN_SECONDS = 10


class Connection(asyncio.Protocol):
    """One caller, whose calls are answered in the order in which they came."""

    def __init__(self, worker: "GateWorker") -> None:
        self.worker = worker
        self.parser = httptools.HttpRequestParser(self)
        self.calls: deque[tuple[bytes, Headers, bool, bool]] = deque()
        self.answering = self.reading = self.in_headers = False
        self.paused = False  # reading, while there is more to answer than the caller takes
        self.full = False  # of answers that the caller does not take
        self.closing = False  # nothing more is expected of the caller
        self.fault = b""  # of what the caller sent last; said when all before it is answered
        self.size = 0
        self.since = worker.seconds

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if isinstance(peer, tuple) else "unix"
        self.worker.connections.add(self)
        excess = len(self.worker.connections) - self.worker.max_connections
        self.one_too_many = excess > 0
        if excess > RESERVED_FILES // 2:  # not even 503 for those: files are left for what counts and asks
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closing = True
        self.worker.connections.discard(self)

    def eof_received(self) -> bool:
        """A caller that has said all it will may still wait for answers."""
        self.closing = True
        return self.answering or bool(self.calls)

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        self.serve()

    def data_received(self, data: bytes) -> None:
        if self.closing or self.fault:
            return
        if (self.answering or self.calls or self.full) and not self.paused:
            self.paused = True
            self.transport.pause_reading()  # what is sent meanwhile waits in the socket
        try:
            self.size += len(data)
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.closing = True  # the answer says so; nothing but HTTP/1.1 is spoken here
        except httptools.HttpParserError:
            self.fault = b"400 Bad Request"
        if self.reading and self.size > MAX_HEADER_BYTES + MAX_BODY_BYTES:
            self.fault = b"413 Content Too Large"
        self.serve()

    # What the parser calls.

    def on_message_begin(self) -> None:
        self.path, self.reading, self.in_headers = b"", True, True
        self.headers: Headers = []
        self.header_bytes = 0
        self.since = self.worker.seconds

    def on_url(self, url: bytes) -> None:
        self.path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.header_bytes += len(name) + len(value)
        if self.in_headers and self.header_bytes <= MAX_HEADER_BYTES:  # a body's trailers are not what was asked
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.in_headers = False
        if (b"expect", b"100-continue") in self.headers and not (self.answering or self.calls):
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_message_complete(self) -> None:
        self.reading, self.size = False, 0
        too_large = self.header_bytes > MAX_HEADER_BYTES
        keep = self.parser.should_keep_alive() and not too_large
        self.calls.append((b"" if too_large else self.path, self.headers, keep, self.parser.get_method() == b"HEAD"))

    # Answering.

    def serve(self) -> None:
        """Answer the next calls, unless one waits for its answer or the caller takes none."""
        while self.calls and not (self.answering or self.full or self.transport.is_closing()):
            path, headers, keep, self.head = self.calls.popleft()
            self.keep = keep and not (self.last or self.one_too_many or self.worker.stopping)
            self.answering, self.asked_at = True, time.perf_counter()
            if self.one_too_many:
                self.worker.gate.tell(f"more than {self.worker.max_connections} callers at once (GATE_MAX_CONNECTIONS)")
                refuse(self.reply, 503, "Too many callers at once. Try again.", b"retry-after: 1\r\n")
            elif path:
                self.worker.gate.ask(path, headers, self.peer, self.reply)
            else:
                self.reply(b"431 Request Header Fields Too Large", b"", b"")
        if self.answering or self.calls or self.transport.is_closing():
            return
        if self.fault:
            self.end(self.fault)
        elif self.paused and not self.full:
            self.paused = False
            self.transport.resume_reading()

    @property
    def last(self) -> bool:
        """Whether the call at hand is the caller's last."""
        return self.closing and not self.calls

    def reply(self, status: bytes, headers: bytes, body: bytes) -> None:
        if self.transport.is_closing():
            return  # the caller went away
        self.transport.write(
            b"HTTP/1.1 %b\r\ndate: %b\r\ncontent-length: %d\r\ncache-control: no-store\r\n%b%b\r\n%b"
            % (
                status,
                self.worker.date,
                len(body),
                headers,
                b"" if self.keep else b"connection: close\r\n",
                b"" if self.head else body,
            )
        )
        self.answering = False
        self.since = self.worker.seconds
        self.worker.metrics.answered(answer_of(status, headers), time.perf_counter() - self.asked_at)
        if self.last or not self.keep:
            self.closing = True
            self.transport.close()
        elif self.paused or self.calls or self.fault:
            self.worker.loop.call_soon(self.serve)  # what came while the call just answered was asked for

    def end(self, status: bytes) -> None:
        """Say so, and throw away what the caller still sends for a while: closed at once, the connection would be
        reset and the answer lost (RFC 9112, 9.6)."""
        self.closing, self.fault, self.since = True, b"", self.worker.seconds
        self.transport.write(b"HTTP/1.1 %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status)
        self.transport.write_eof()
        if self.paused:
            self.paused = False
            self.transport.resume_reading()

    def tidy(self, seconds: int, idle: int = IDLE_SECONDS) -> None:
        """Close it where its call does not come, its answers are not taken, or none is asked for longer than `idle`
        seconds."""
        waited = seconds - self.since
        if (self.full or self.transport.is_closing()) and waited > REQUEST_SECONDS:
            self.transport.abort()
        elif self.answering or self.calls:
            return
        elif self.closing:
            if waited > LINGER_SECONDS:
                self.transport.close()
        elif self.reading and waited > REQUEST_SECONDS:
            self.end(b"408 Request Timeout")
        elif not self.reading and waited > (min(idle, REQUEST_SECONDS) if self.one_too_many else idle):
            self.closing = True
            self.transport.close()


def answer_of(status: bytes, headers: bytes) -> str:
    """As the metrics call it."""
    if status.startswith(b"401"):
        return headers.partition(b"x-api-key-status: ")[2].partition(b"\r")[0].decode()
    if status.startswith(b"200") and headers.startswith(b"x-account-id"):
        return "accepted"
    return "unavailable" if status.startswith(b"503") else "other"


class GateWorker(Worker):  # type: ignore[misc]
    """gunicorn's worker: `callable()` is the gate."""

    stopping = False
    seconds = 0  # since the start, told once a second
    date = b""

    def init_signals(self) -> None:
        super().init_signals()
        signal.set_wakeup_fd(-1)  # the loop has its own

    def run(self) -> None:
        uvloop.run(self.serve())

    async def serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.connections: set[Connection] = set()
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        files = 1 << 30 if most == resource.RLIM_INFINITY else most
        self.max_connections = min(settings.GATE_MAX_CONNECTIONS, files - RESERVED_FILES)
        self.metrics = Metrics(self.age)
        self.greetings: set[asyncio.Task[None]] = set()
        self.gate = self.wsgi()
        stop = asyncio.Event()
        for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            self.loop.add_signal_handler(sign, stop.set)
        if not self.alive:  # told to stop before that
            return
        await self.gate.lookup.open()
        beats = self.loop.create_task(self.beat(stop))
        counts = self.loop.create_task(self.hand_over())
        listeners = [listener.sock for listener in self.sockets]
        for listener in listeners:
            listener.setblocking(False)
            self.listen(listener)
        await stop.wait()
        self.stopping = True
        for listener in listeners:
            self.loop.remove_reader(listener)
            while self.accept(listener):  # who waits already, would be reset
                pass
            listener.close()
        await self.drain()
        beats.cancel()
        counts.cancel()
        self.gate.close()

    def listen(self, listener: socket.socket) -> None:
        with suppress(ValueError):  # closed meanwhile: the worker stops
            self.loop.add_reader(listener, self.accept, listener)

    def accept(self, listener: socket.socket) -> bool:
        """One caller a turn of the loop: a worker that takes all who wait leaves the others idle. Whether one came."""
        try:
            caller, _ = listener.accept()
        except BlockingIOError:
            return False  # another worker was faster
        except OSError:  # out of file descriptors
            self.loop.remove_reader(listener)
            self.loop.call_later(1, self.listen, listener)
            return False
        caller.setblocking(False)
        greeting = self.loop.create_task(self.greet(caller))
        self.greetings.add(greeting)
        greeting.add_done_callback(self.greetings.discard)
        return True

    async def greet(self, caller: socket.socket) -> None:
        await self.loop.connect_accepted_socket(lambda: Connection(self), caller)

    async def beat(self, stop: asyncio.Event) -> None:
        """Once a second: tell gunicorn that this worker lives, and tidy up."""
        while True:
            self.notify()
            self.date = formatdate(usegmt=True).encode()
            for connection in list(self.connections):
                connection.tidy(self.seconds)
            if os.getppid() != self.ppid:
                stop.set()
            await asyncio.sleep(1)
            self.seconds += 1

    async def hand_over(self) -> None:
        while True:
            await asyncio.sleep(settings.METERING_SECONDS)
            self.gate.counter.close()

    async def drain(self) -> None:
        """Answer those who are there, and tell them to go; first wait for calls that are on their way."""
        deadline = self.loop.time() + DRAIN_SECONDS
        await asyncio.sleep(DRAIN_IDLE_SECONDS)
        while self.connections and self.loop.time() < deadline:
            for connection in list(self.connections):
                connection.tidy(self.seconds, idle=-1)
            await asyncio.sleep(0.01)
