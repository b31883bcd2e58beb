"""The console's port: what a request costs before it is a request."""

import contextlib
import re
import socket
from collections.abc import Iterator

import httpx
import pytest

from tests.support.servers import Server

pytestmark = pytest.mark.once
SLOW = 200
HEADERS = b"Host: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
FORM = b"username=nobody&password=x"
POST = b"POST /login/ HTTP/1.1\r\n" + HEADERS


@pytest.fixture
def connected(server: Server) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as caller:
        yield caller


def statuses(caller: socket.socket, count: int) -> list[bytes]:
    """Of so many answers."""
    received = b""
    while len(found := re.findall(rb"HTTP/1\.1 (\d+) ", received)) < count and (part := caller.recv(65536)):
        received += part
    return found


def ended(caller: socket.socket) -> bool:
    with contextlib.suppress(ConnectionResetError):
        while caller.recv(65536):
            pass
    return True


@pytest.mark.parametrize(
    "begun",
    [b"", b"POST /login/ HTTP/1.1\r\nHost: 127", POST + b"Content-Length: 26\r\n\r\nusername"],
    ids=["nothing", "headers", "body"],
)
def test_clients_that_send_slowly_hold_up_nobody(server: Server, begun: bytes) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(SLOW):
            caller = held.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20))
            caller.sendall(begun)
        for _ in range(20):  # more than the threads of a process
            assert httpx.get(f"{server.address}/login/", timeout=10).status_code == 200
        assert ended(caller), "a request that does not come is not waited for"


def test_a_request_may_come_in_parts(connected: socket.socket) -> None:
    whole = POST + b"Content-Length: %d\r\n\r\n" % len(FORM) + FORM
    for part in (whole[:7], whole[7:60], whole[60:-4], whole[-4:]):
        connected.sendall(part)
    assert statuses(connected, 1) == [b"403"], "without its token"


def test_requests_may_come_together_and_again_on_a_kept_connection(connected: socket.socket) -> None:
    get = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    connected.sendall(get + get.replace(b"healthz", b"login/"))
    assert statuses(connected, 2) == [b"200", b"200"]
    connected.sendall(get)
    assert statuses(connected, 1) == [b"200"]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (POST + b"Content-Length: 200000\r\n\r\n", b"413"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1a\r\n" + FORM + b"\r\n0\r\n\r\n", b"411"),
        (b"GET /login/ HTTP/1.1\r\nX: " + b"x" * 200_000, b"431"),
    ],
    ids=["large body", "body of unknown length", "large headers"],
)
def test_what_no_page_needs_is_refused(connected: socket.socket, request_: bytes, status: bytes) -> None:
    connected.sendall(request_)
    assert statuses(connected, 1) == [status]
    with contextlib.suppress(ConnectionError):
        connected.sendall(b"more")
    assert ended(connected)


@pytest.mark.parametrize("begun", [b"", b"GET /login/ HTTP/1.1\r\n", POST + b"Content-Length: 26\r\n\r\nuser"])
@pytest.mark.parametrize("how", ["closed", "reset"])
def test_a_client_that_goes_away_half_way_is_no_error(server: Server, begun: bytes, how: str) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as caller:
        caller.sendall(begun)
        if how == "reset":
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert httpx.get(f"{server.address}/healthz").status_code == 200
    assert "Traceback" not in server.output.read_text() + server.errors.read_text()


def test_who_does_not_close_after_the_last_answer_holds_up_nobody(server: Server) -> None:
    request = b"GET /login/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    with contextlib.ExitStack() as held:
        callers = [
            held.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20)) for _ in range(SLOW)
        ]
        for caller in callers:
            caller.sendall(request)
        assert all(statuses(caller, 1) == [b"200"] for caller in callers)
        assert all(ended(caller) for caller in callers)


def test_a_request_that_follows_in_parts_holds_no_thread(server: Server) -> None:
    get = b"GET /login/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with contextlib.ExitStack() as held:
        for _ in range(SLOW):
            caller = held.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20))
            caller.sendall(get + get[:20])
            assert statuses(caller, 1) == [b"200"]
        assert httpx.get(f"{server.address}/login/", timeout=10).status_code == 200
