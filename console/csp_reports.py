"""CSP violation reports: what a Content Security Policy blocked is logged, an attempt to inject something above all."""

import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import urlsplit, urlunsplit

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from console.origin import client_address
from console.proxies import SITE, network_of
from console.rate_limits import Exhausted, RateLimit, take

logger = logging.getLogger(__name__)

MAX_BYTES = 16 << 10
MAX_REPORTS = 10  # in one request
LONGEST = 200  # characters of a field
MINUTE = timedelta(minutes=1)
# The logged fields, and their names in application/reports+json and in application/csp-report.
FIELDS = {
    "page": ("documentURL", "document-uri"),
    "directive": ("effectiveDirective", "effective-directive"),
    "blocked": ("blockedURL", "blocked-uri"),
    "source": ("sourceFile", "source-file"),
    "line": ("lineNumber", "line-number"),
}


@csrf_exempt
@require_POST
def report(request: HttpRequest) -> HttpResponse:
    """Log it and answer 204, or 429 if there are too many."""
    try:
        reports = list(reports_in(request))
    except (ValueError, RecursionError):
        return HttpResponse(
            "Send a CSP violation report, as browsers do.\n", content_type="text/plain; charset=utf-8", status=400
        )
    try:
        take(limits_of(client_address(request) or ""))
    except Exhausted:
        return HttpResponse(status=429, headers={"Retry-After": "60"})
    for fields in reports:
        logger.warning("Content Security Policy violated", extra={"fields": fields})
    return HttpResponse(status=204)


def limits_of(address: str) -> list[RateLimit]:
    """Requests per minute from a network, from a site, and in all: a report that is not logged harms nobody."""
    return [
        RateLimit("csp-report", 10, MINUTE, caller=network_of(address)),
        RateLimit("csp-report-of-site", 30, MINUTE, caller=network_of(address, SITE)),
        RateLimit("csp-report-of-all", 100, MINUTE),
    ]


def reports_in(request: HttpRequest) -> Iterator[dict[str, str]]:
    """The logged fields of each. Raises ValueError."""
    if int(request.META.get("CONTENT_LENGTH") or 0) > MAX_BYTES:
        raise ValueError
    sent = json.loads(request.body)
    found = [sent.get("csp-report")] if isinstance(sent, dict) else [each.get("body") for each in listed(sent)]
    for body in listed(found):
        values = {name: next((body[key] for key in keys if key in body), "") for name, keys in FIELDS.items()}
        yield {name: without_query(str(value))[:LONGEST] for name, value in values.items()}


def listed(value: object) -> list[dict[str, object]]:
    """A list of a few objects. Raises ValueError for anything else."""
    if not isinstance(value, list) or len(value) > MAX_REPORTS or not all(isinstance(each, dict) for each in value):
        raise ValueError
    return value


def without_query(text: str) -> str:
    parts = urlsplit(text)
    return urlunsplit(parts._replace(query="", fragment=""))
