"""A call and its answer: what the gate's policy and its HTTP have in common."""

from collections.abc import Callable
from dataclasses import dataclass

TOKEN, AUTHORIZATION, FORWARDED_FOR = b"dashvector-auth-token", b"authorization", b"x-forwarded-for"
OK, UNAUTHORIZED, NOT_FOUND = b"200 OK", b"401 Unauthorized", b"404 Not Found"
UNAVAILABLE = b"503 Service Unavailable"
Headers = list[tuple[bytes, bytes]]  # names in lower case


@dataclass(slots=True)
class Call:
    path: bytes  # as it was sent
    headers: Headers
    peer: str  # the address at the other end of the connection, "unix" for a Unix socket
    keep_alive: bool = True
    is_head: bool = False  # whose answer has no body
    began_at: float = 0.0  # when the gate began to answer it (time.perf_counter)


@dataclass(slots=True)
class Answer:
    status: bytes  # one of those above
    headers: bytes  # whole lines
    body: bytes
    label: str  # in the metrics; one of apikeys.gate.metrics.LABELS


Reply = Callable[[Answer], None]
Handle = Callable[[Call, Reply], None]
