"""gunicorn's worker with threads, in which a request takes a thread only once it has arrived, and /healthz takes none
of those that serve pages.

So clients that send slowly hold no thread, and /healthz is answered while all threads wait for a database. (gunicorn's
own worker reads a request in a thread, for as long as its client takes, and its loop waits for clients to close.)
"""

import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from selectors import EVENT_READ
from typing import Any

from gunicorn.workers.gthread import TConn, ThreadWorker

REQUEST_SECONDS = 10  # for a request to arrive
LINGER_SECONDS = 2  # for a client to close after the last answer: closed before, that could be lost (RFC 9112, 9.6)
MAX_HEADER_BYTES = 64 << 10
MAX_BODY_BYTES = 128 << 10  # more than any form or report has
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,18})[ \t]*\r\n", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
PROBE = re.compile(rb"(GET|HEAD) /healthz[ ?]")


class Refused(Exception):
    """With the status: nothing that is asked for here needs that."""


def body_bytes(head: bytes) -> int:
    """How long the body is that follows these headers. Raises Refused."""
    if CHUNKED.search(head):
        raise Refused(b"411 Length Required")
    length = LENGTH.search(head)
    if length and int(length[1]) > MAX_BODY_BYTES:
        raise Refused(b"413 Content Too Large")
    return int(length[1]) if length else 0


class Connection(TConn):  # type: ignore[misc]
    ended = False  # by us: whatever comes is thrown away

    def __init__(self, worker: "Worker", client: socket.socket, address: Any, listener: socket.socket) -> None:
        super().__init__(worker.cfg, client, address, listener.getsockname())
        self.worker = worker
        self.forget_request()

    def forget_request(self) -> None:
        self.received = bytearray()  # and not handed to a thread yet
        self.expected = 0  # bytes; 0 until the headers are there

    def feed(self, part: bytes) -> bool:
        """Whether a thread can read a request now without waiting; what it means is for gunicorn's parser to say.
        Raises Refused."""
        begin = max(0, len(self.received) - 3)
        self.received += part
        if not self.expected:
            end = self.received.find(b"\r\n\r\n", begin)
            if (len(self.received) if end < 0 else end) > MAX_HEADER_BYTES:
                raise Refused(b"431 Request Header Fields Too Large")
            if end < 0:
                return False
            self.expected = end + 4 + body_bytes(bytes(self.received[: end + 2]))
        return len(self.received) >= self.expected

    def close(self, graceful: bool = False) -> None:
        """gunicorn would wait in its loop for the client to close."""
        if graceful and self.sock.fileno() >= 0:
            self.worker.nr_conns += 1
            self.worker.read(self)
            self.worker.end(self)
        else:
            super().close()


class Worker(ThreadWorker):  # type: ignore[misc]
    def init_process(self) -> None:
        self.probes = ThreadPoolExecutor(max_workers=1)
        super().init_process()

    def accept(self, listener: Any) -> bool:
        """Whether there was a client."""
        try:
            client, address = listener.accept()
        except OSError:  # another worker was faster, the client has gone, or there is no room for another file
            return False
        self.nr_conns += 1
        self.read(Connection(self, client, address, listener))
        return True

    def set_accept_enabled(self, enabled: bool) -> None:
        if not self.alive:
            for listener in self.sockets:
                more = True
                while more:  # callers that wait already would be reset
                    more = self.accept(listener)
        super().set_accept_enabled(enabled)

    def on_client_socket_readable(self, conn: Connection, client: socket.socket) -> None:
        """A connection that was kept has something to say."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self.read(conn)

    def read(self, conn: Connection) -> None:
        """In the loop, until a thread can have it."""
        conn.sock.setblocking(False)
        conn.timeout = time.monotonic() + REQUEST_SECONDS
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def on_pending_socket_readable(self, conn: Connection, client: socket.socket) -> None:
        part = b""
        with suppress(OSError):
            part = client.recv(MAX_BODY_BYTES)
        if not part:
            self.drop(conn)
        elif not conn.ended:
            self.feed(conn, part)

    def feed(self, conn: Connection, part: bytes) -> None:
        try:
            if conn.feed(part):
                self.forget(conn)
                pool = self.probes if PROBE.match(conn.received) else self.tpool
                future = pool.submit(self.handle, conn)
                future.add_done_callback(lambda done: self.method_queue.defer(self.finish_request, conn, done))
        except Refused as refused:
            with suppress(OSError):
                conn.sock.send(b"HTTP/1.1 %b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % refused.args[0])
            self.end(conn)

    def handle(self, conn: Connection) -> Any:
        conn.init()
        conn.parser.unreader.unread(conn.received)
        conn.forget_request()
        return super().handle(conn)

    def enqueue_req(self, conn: Connection) -> None:
        """A request was answered, and its client has already sent more."""
        self.read(conn)
        self.feed(conn, conn.parser.unreader.take_buffered())

    def end(self, conn: Connection) -> None:
        conn.ended, conn.timeout = True, time.monotonic() + LINGER_SECONDS
        with suppress(OSError):
            conn.sock.shutdown(socket.SHUT_WR)

    def forget(self, conn: Connection) -> None:
        self.poller.unregister(conn.sock)
        self.pending_conns.remove(conn)

    def drop(self, conn: Connection) -> None:
        self.forget(conn)
        self.nr_conns -= 1
        conn.close()

    def murder_pending(self) -> None:
        now = time.monotonic()
        for conn in [each for each in self.pending_conns if each.timeout <= now]:
            self.drop(conn)

    def _cap_keepalive(self, deadline: float) -> None:
        """As it stops: who has not sent a request yet is not waited for longer than who was kept."""
        super()._cap_keepalive(deadline)
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, deadline)
