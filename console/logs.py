"""Logs: one JSON object per line on standard output, with the request's id and never with a secret."""

import json
import logging
import re
from contextvars import ContextVar
from datetime import UTC, datetime

SECRET = re.compile(r"sk-[0-9A-Za-z]{8,}")  # an API key or a part of one, wherever it was put by mistake
LINK = re.compile(r"(/(?:invitation/\d+|recovery(?:/cancel)?)/)[^/\"\s]+")
PROBES = {"/healthz", "/readyz"}  # requested every few seconds: 200 is not logged
request_id: ContextVar[str] = ContextVar("request_id", default="")


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
        if record.exc_info and not record.name.startswith("django.security."):  # those are clients' errors
            unavailable = getattr(record, "status_code", 500) == 503  # not a fault of the code
            line["error"] = str(record.exc_info[1]) if unavailable else self.formatException(record.exc_info)
        return LINK.sub(r"\1...", scrubbed(json.dumps(line)))


CONFIG = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "console.logs.JsonFormatter"}},
    "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stdout"}},
    "root": {"handlers": ["out"], "level": "WARNING"},
    "loggers": {
        "console.requests": {"level": "INFO"},
        "console.ledger": {"level": "INFO"},
        "django": {"handlers": [], "level": "WARNING"},
        "django.request": {"level": "ERROR"},  # clients' errors are in console.requests
        "gunicorn.error": {"handlers": ["out"], "level": "WARNING", "propagate": False},
        "gunicorn.access": {"handlers": [], "level": "ERROR", "propagate": False},
    },
}
