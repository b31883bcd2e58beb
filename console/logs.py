"""Logs: a JSON object a line, on standard output, with the id of the request, and never with a key."""

import json
import logging
import re
import time
import uuid
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime

from django.http import HttpRequest, HttpResponse

SECRET = re.compile(r"sk-[0-9A-Za-z]{8,}")  # a key, whole or cut off, also one that was put where it does not belong
INVITATION = re.compile(r"(/invitation/\d+/)[^/\"\s]+")
PROBES = {"/healthz", "/readyz"}  # asked every few seconds: an answer of 200 is not logged
request_id: ContextVar[str] = ContextVar("request_id", default="")
requests = logging.getLogger("console.requests")


def scrubbed(text: str) -> str:
    return SECRET.sub("sk-...", text)


class JsonFormatter(logging.Formatter):
    """`extra={"fields": {…}}` adds fields."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": request_id.get(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and not record.name.startswith("django.security."):  # those are what a client did wrong
            line["error"] = self.formatException(record.exc_info)
        return INVITATION.sub(r"\1...", scrubbed(json.dumps(line)))


CONFIG = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "console.logs.JsonFormatter"}},
    "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stdout"}},
    "root": {"handlers": ["out"], "level": "WARNING"},
    "loggers": {
        "console.requests": {"level": "INFO"},
        "django": {"handlers": [], "level": "WARNING"},
        "django.request": {"level": "ERROR"},  # what clients did wrong is in console.requests
        "gunicorn.error": {"handlers": ["out"], "level": "WARNING", "propagate": False},
        "gunicorn.access": {"handlers": [], "level": "ERROR", "propagate": False},
    },
}


class RequestMiddleware:
    """The outermost: gives a request its id, logs its answer, and adds the headers that every answer has. Nothing
    behind it meets a key that was put where none belongs, and so nothing stores it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        from console.access import client_address  # whose models are not there when the settings read CONFIG

        self.get_response, self.address_of = get_response, client_address

    def __call__(self, request: HttpRequest) -> HttpResponse:
        token, began = request_id.set(uuid.uuid4().hex), time.monotonic()
        for name in ("HTTP_USER_AGENT", "QUERY_STRING"):
            request.META[name] = scrubbed(request.META.get(name, ""))
        try:
            response = self.get_response(request)
            response.headers["X-Request-Id"] = request_id.get()
            response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
            response.headers["Permissions-Policy"] = "camera=(), geolocation=(), microphone=()"
            response.headers.setdefault("X-Frame-Options", "DENY")
            response.headers.setdefault("Cache-Control", "no-store")
            fields = {
                "method": request.method,
                "path": request.path,
                "status": response.status_code,
                "ms": round((time.monotonic() - began) * 1000, 1),
                "address": self.address_of(request),
            }
            if request.path not in PROBES or response.status_code != 200:
                requests.info("answered", extra={"fields": fields})
            return response
        finally:
            request_id.reset(token)
