"""The origin of an act: who acts, from which address and browser, and with which factor. Set for each request by
console.access."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from django.conf import settings
from django.http import HttpRequest

from console.proxies import caller_address


class ActorKind(StrEnum):
    USER = "user"
    COMMAND = "command"  # a management command
    REPORT = "report"  # a leak report from outside
    SYSTEM = "system"  # nobody: the console noticed something


class Actor(NamedTuple):
    kind: ActorKind
    name: str = ""  # a user's name


@dataclass
class Origin:
    actor: Callable[[], Actor] = lambda: Actor(ActorKind.COMMAND)
    address: str | None = None
    browser: str = ""
    factor: str = ""  # the kind of factor that the act was authenticated with


_origin: ContextVar[Origin] = ContextVar("origin")


def current_origin() -> Origin:
    """The origin of the request at hand; outside requests, a management command's."""
    return _origin.get(None) or Origin()


@contextmanager
def acting(origin: Origin) -> Iterator[None]:
    token = _origin.set(origin)
    try:
        yield
    finally:
        _origin.reset(token)


def client_address(request: HttpRequest) -> str | None:
    """The caller's IP address, as the database stores it; None on a Unix socket whose proxy names none."""
    peer, forwarded_for = (request.META.get(name, "") for name in ("REMOTE_ADDR", "HTTP_X_FORWARDED_FOR"))
    return caller_address(peer, forwarded_for, settings.TRUSTED_PROXIES) or None
