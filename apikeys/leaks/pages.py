"""Leak reports from outside."""

import json
import logging
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from apikeys.keys.format import LENGTH, PREFIX
from apikeys.leaks.models import LeakReport
from apikeys.leaks.revoke import Leak, revoke_leaked
from console.origin import Actor, ActorKind, acting, client_address, current_origin, network_of
from console.security import taking_at_least
from console.signatures import PublicKeys, SignatureRefused, public_keys, verify

logger = logging.getLogger(__name__)

MAX_KEYS = 100
MAX_BYTES = 64 << 10
REPORTS_A_MINUTE = 10  # from one IP address
URL = re.compile(r"https?://[!-~]{1,500}")
KEY = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{LENGTH - len(PREFIX)}}}")
SECONDS = 0.5  # the least time that a report takes, so that its time does not show which keys exist


@csrf_exempt
@require_POST
def report(request: HttpRequest) -> HttpResponse:
    """`{"keys": ["sk-…"]}`, or `[{"token": "sk-…", "url": "https://…"}]` as GitHub's secret scanning sends it, or one
    key per line; 202 whether or not any of them exists."""
    if too_many_from(client_address(request)):
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
    with taking_at_least(SECONDS), acting(reporter):
        revoke_leaked(leaks, signed=signed)
    return JsonResponse({"received": len(leaks)}, status=202)


def too_many_from(address: str | None) -> bool:
    """Counts this report first: of many at once, no more pass than of as many in sequence."""
    address = network_of(address)
    now, minute = timezone.now(), timedelta(minutes=1)
    lately = (now - minute, now + minute)  # the clocks of several hosts differ a little
    LeakReport.objects.exclude(at__range=lately).delete()
    LeakReport.objects.create(address=address)
    return LeakReport.objects.filter(address=address, at__range=lately).count() > REPORTS_A_MINUTE


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
