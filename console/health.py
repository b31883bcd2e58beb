"""Liveness and readiness, for supervisors and load balancers."""

from collections.abc import Callable

from django.db import Error
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from console import schema, storage
from console.logs import PROBES


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
    return HttpResponse("ok\n", content_type="text/plain")


@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """The database can be reached and written and has the migrations of this version; 503 and the reason otherwise."""
    try:
        problem = storage.file_problem() or schema.state() or storage.write_problem() or storage.deletions_problem()
    except Error:
        problem = "the database cannot be reached"
    return HttpResponse(f"{problem or 'ok'}\n", content_type="text/plain", status=503 if problem else 200)
