"""Leak reports from outside."""

import json
from dataclasses import replace
from datetime import timedelta

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from apikeys.leaks.models import LeakReport
from apikeys.leaks.revoke import revoke_leaked
from console.origin import Actor, ActorKind, acting, client_address, current_origin
from console.proxies import network_of
from console.security import taking_at_least

MAX_KEYS = 100
MAX_BYTES = 64 << 10
REPORTS_A_MINUTE = 10  # from one IP address
SECONDS = 0.5  # the least time that a report takes, so that its time does not show which keys exist


@csrf_exempt
@require_POST
def report(request: HttpRequest) -> HttpResponse:
    """`{"keys": ["sk-…"]}`, or one key per line; 202 whether or not any of them exists."""
    if too_many_from(client_address(request)):
        answer = JsonResponse({"message": "Too many reports from your IP address. Try again in a minute."}, status=429)
        answer.headers["Retry-After"] = "60"
        return answer
    try:
        secrets = keys_in(request)
    except (ValueError, RecursionError):
        limits = f"at most {MAX_KEYS} keys and {MAX_BYTES >> 10} kB"
        message = f'Send {{"keys": ["sk-..."]}} as JSON, or one key per line: {limits}.'
        return JsonResponse({"message": message}, status=400)
    reporter = replace(current_origin(), actor=lambda: Actor(ActorKind.REPORT))
    with taking_at_least(SECONDS), acting(reporter):
        revoke_leaked(secrets)
    return JsonResponse({"received": len(secrets)}, status=202)


def too_many_from(address: str | None) -> bool:
    """Counts this report first: of many at once, no more pass than of as many in sequence."""
    address = network_of(address or "").partition("/")[0] or None
    minute_ago = timezone.now() - timedelta(minutes=1)
    LeakReport.objects.filter(at__lt=minute_ago).delete()
    LeakReport.objects.create(address=address)
    return LeakReport.objects.filter(address=address, at__gt=minute_ago).count() > REPORTS_A_MINUTE


def keys_in(request: HttpRequest) -> list[str]:
    """Raises ValueError."""
    if int(request.META.get("CONTENT_LENGTH") or 0) > MAX_BYTES:
        raise ValueError
    text = request.body.decode()
    keys: object = text.split()
    if request.content_type == "application/json":
        sent = json.loads(text)
        keys = sent.get("keys") if isinstance(sent, dict) else None
    if not isinstance(keys, list) or not 0 < len(keys) <= MAX_KEYS or not all(isinstance(key, str) for key in keys):
        raise ValueError
    return keys
