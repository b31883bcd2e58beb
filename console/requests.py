"""For every request: an id, a line in the log, and the headers of its response."""

import logging
import time
import uuid
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from console.logs import PROBES, request_id, scrubbed
from console.origin import client_address

logger = logging.getLogger(__name__)


class RequestMiddleware:
    """The outermost middleware: sets the request's id, logs the response, and adds the common headers. It removes API
    keys from the query and the User-Agent, so that nothing stores one."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        token, began = request_id.set(uuid.uuid4().hex), time.monotonic()
        for name in ("HTTP_USER_AGENT", "QUERY_STRING"):
            request.META[name] = scrubbed(request.META.get(name, ""))
        try:
            response = self.get_response(request)
            response.headers["X-Request-Id"] = request_id.get()
            response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
            if settings.HTTPS:
                response.headers["Reporting-Endpoints"] = f'csp="{settings.CONSOLE_URL}/csp-reports"'
            response.headers["Permissions-Policy"] = "camera=(), geolocation=(), microphone=()"
            response.headers.setdefault("X-Frame-Options", "DENY")
            response.headers.setdefault("Cache-Control", "no-store")
            fields = {
                "method": request.method,
                "path": request.path,
                "status": response.status_code,
                "ms": round((time.monotonic() - began) * 1000, 1),
                "address": client_address(request),
            }
            if request.path not in PROBES or response.status_code != 200:
                logger.info("answered", extra={"fields": fields})
            return response
        finally:
            request_id.reset(token)
