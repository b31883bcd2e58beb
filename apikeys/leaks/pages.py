"""Leak reports from outside."""

import json
import logging
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from apikeys.keys.format import LENGTH, PREFIX
from apikeys.leaks.revoke import Leak, revoke_leaked
from console.ledger.kinds import Kind
from console.ledger.record import record_or_rehearse
from console.origin import Actor, ActorKind, acting, client_address, current_origin
from console.proxies import SITE, network_of
from console.rate_limits import Exhausted, RateLimit, take
from console.signatures import PublicKeys, SignatureRefused, public_keys, verify

logger = logging.getLogger(__name__)

MAX_KEYS = 100
MAX_BYTES = 64 << 10
MINUTE = timedelta(minutes=1)
REPORTS = 10  # in a minute, from an IPv4 address or the /64 of an IPv6 address
REPORTS_OF_A_SITE = 30  # from the /48 of an IPv6 address
URL = re.compile(r"https?://[!-~]{1,500}")
KEY = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{LENGTH - len(PREFIX)}}}")


@csrf_exempt
@require_POST
def report(request: HttpRequest) -> HttpResponse:
    """`{"keys": ["sk-…"]}`, or `[{"token": "sk-…", "url": "https://…"}]` as GitHub's secret scanning sends it, or one
    key per line; 202 whether or not any of them exists."""
    try:
        take(limits_of(client_address(request) or ""))
    except Exhausted:
        answer = JsonResponse({"message": "Too many reports from your IP address. Try again in a minute."}, status=429)
        answer.headers["Retry-After"] = "60"
        return answer
    try:
        leaks, signed = leaks_in(request), is_signed(request)
    except (ValueError, RecursionError):
        limits = f"at most {MAX_KEYS} keys and {MAX_BYTES >> 10} kB"
        message = f'Send {{"keys": ["sk-..."]}} or [{{"token": "sk-..."}}] as JSON, or one key per line: {limits}.'
        return JsonResponse({"message": message}, status=400)
    except SignatureRefused as refused:  # GitHub names no status; other services that it reports to answer 400
        return JsonResponse({"message": str(refused)}, status=400)
    reporter = replace(current_origin(), actor=lambda: Actor(ActorKind.REPORT))
    with acting(reporter):
        if not revoke_leaked(leaks, signed=signed):
            record_or_rehearse(Kind.KEY_LEAKED, None)  # as much work, so that its time does not show which keys exist
    return JsonResponse({"received": len(leaks)}, status=202)


def limits_of(address: str) -> list[RateLimit]:
    return [
        RateLimit("leak-report", REPORTS, MINUTE, caller=network_of(address)),
        RateLimit("leak-report-of-site", REPORTS_OF_A_SITE, MINUTE, caller=network_of(address, SITE)),
    ]


def leaks_in(request: HttpRequest) -> list[Leak]:
    """Raises ValueError."""
    if int(request.META.get("CONTENT_LENGTH") or 0) > MAX_BYTES:
        raise ValueError
    text = request.body.decode("utf-8-sig")
    sent: object = json.loads(text) if request.content_type == "application/json" else text.split()
    found = sent.get("keys") if isinstance(sent, dict) else sent
    if not isinstance(found, list) or not 0 < len(found) <= MAX_KEYS:
        raise ValueError
    return [leak_of(item) for item in found]


def leak_of(item: object) -> Leak:
    """Raises ValueError."""
    token, url = (item.get("token"), item.get("url")) if isinstance(item, dict) else (item, "")
    if not isinstance(token, str):
        raise ValueError
    # A stranger wrote the URL, and the owner reads it in an email: nothing else fits into it, no key either.
    return Leak(token, KEY.sub("sk-...", url) if isinstance(url, str) and URL.fullmatch(url) else "")


def is_signed(request: HttpRequest) -> bool:
    """Whether a signature came with it and verifies. Where no public keys are set, a signature is not looked at. Raises
    SignatureRefused."""
    identifier, signature = (request.headers.get(f"Github-Public-Key-{name}") for name in ("Identifier", "Signature"))
    if settings.LEAK_REPORT_PUBLIC_KEYS is None or not (identifier or signature):
        return False
    verify(known_keys(settings.LEAK_REPORT_PUBLIC_KEYS), identifier or "", signature or "", request.body)
    return True


def known_keys(file: Path) -> PublicKeys:
    try:
        return public_keys(file.read_text())
    except (OSError, ValueError) as error:
        logger.error("LEAK_REPORT_PUBLIC_KEYS: %s is no longer readable: %r", file, error)
        return {}
