"""Liveness and readiness, for supervisors and load balancers."""

import time
from collections.abc import Callable
from threading import Lock

from django.db import Error
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from console import schema, storage
from console.logs import PROBES

FRESH_SECONDS = 1.0


def any_host(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware: a probe's Host is the IP address of a container or machine, which ALLOWED_HOSTS cannot list."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if request.path in PROBES:
            request.META["HTTP_HOST"] = "localhost"
        return get_response(request)

    return middleware


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """This process answers."""
    return HttpResponse("ok\n", content_type="text/plain; charset=utf-8")


class Readiness:
    """Caches the result for a second, so that any number of requests costs one write to the database."""

    def __init__(self) -> None:
        self.lock, self.problem, self.fresh_until = Lock(), "", 0.0

    def look(self) -> str:
        """The problem, or "". While a check takes long, only the request that started it waits; the others get the
        earlier result."""
        first = self.fresh_until == 0
        if time.monotonic() >= self.fresh_until and self.lock.acquire(blocking=first):
            try:
                if time.monotonic() >= self.fresh_until:
                    self.problem = find_problem()
                    self.fresh_until = time.monotonic() + FRESH_SECONDS
            finally:
                self.lock.release()
        return self.problem


def find_problem() -> str:
    try:
        return storage.file_problem() or schema.state() or storage.write_problem() or storage.deletions_problem()
    except Error:
        return "the database cannot be reached"


readiness = Readiness()


@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """The database can be reached and written and has the migrations of this version; 503 and the reason otherwise."""
    problem = readiness.look()
    return HttpResponse(
        f"{problem or 'ok'}\n", content_type="text/plain; charset=utf-8", status=503 if problem else 200
    )
