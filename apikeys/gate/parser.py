"""HTTP/1.1 for the gate: what a caller sends is split into calls, by httptools, which is llhttp.

A call's body is read and discarded; what comes before and after it may not be longer than a gateway lets through, and
is measured as it arrives: httptools keeps a header until it is complete.
"""

from collections import deque
from enum import Enum, auto
from typing import Protocol

import httptools

from apikeys.gate.call import Call, Headers

MAX_HEADER_BYTES = 32 << 10
MAX_HEADERS = 100  # as Apache and gunicorn have it; each takes a hundred bytes more than what was sent
MAX_BODY_BYTES = 1 << 20
TOO_LARGE = b"431 Request Header Fields Too Large"


class Listener(Protocol):
    def on_begin(self) -> None:
        """A call begins to arrive."""

    def on_expect(self) -> None:
        """The caller expects `100 Continue` before it sends the body."""


class Reading(Enum):
    """How far the next call has arrived."""

    NOTHING = auto()
    HEADERS = auto()
    BODY = auto()


NOTHING, HEADERS, BODY = Reading  # looked up for each header of each call, at a quarter of the time


class Parser:
    """Turns what a caller sends into calls."""

    def __init__(self, peer: str, listener: Listener) -> None:
        self.peer, self.listener = peer, listener
        self.parser = httptools.HttpRequestParser(self)
        self.calls: deque[Call] = deque()  # that have arrived and are to be answered
        self.reading = NOTHING
        self.size = 0  # in bytes, of the call that is being read
        self.kept = 0  # those of them that are in no part of a body yet: request line, headers, trailers
        self.error = b""  # the status for what was sent after `calls`
        self.upgraded = False  # another protocol is to follow `calls`

    def feed(self, data: memoryview) -> None:
        self.size += len(data)
        self.kept += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.upgraded = True  # the answer says so: nothing but HTTP/1.1 is spoken
        except httptools.HttpParserError:
            self.error = self.error or b"400 Bad Request"
        if self.kept > MAX_HEADER_BYTES:
            self.error = TOO_LARGE
        elif self.reading is not NOTHING and self.size > MAX_HEADER_BYTES + MAX_BODY_BYTES:
            self.error = b"413 Content Too Large"

    # httptools calls these.

    def on_message_begin(self) -> None:
        self.path, self.reading = b"", HEADERS
        self.headers: Headers = []
        self.listener.on_begin()

    def on_url(self, url: bytes) -> None:
        self.path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.reading is HEADERS:  # a trailer is no header of the call
            if len(self.headers) == MAX_HEADERS:
                self.error = TOO_LARGE
                raise ValueError  # which ends the parsing
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.reading = BODY
        if (b"expect", b"100-continue") in self.headers:
            self.listener.on_expect()

    def on_body(self, part: bytes) -> None:
        self.kept = 0

    def on_message_complete(self) -> None:
        self.reading, self.size, self.kept = NOTHING, 0, 0
        is_head = self.parser.get_method() == b"HEAD"
        self.calls.append(Call(self.path, self.headers, self.peer, self.parser.should_keep_alive(), is_head))
