"""Keys that somebody found in the open: whoever has one whole can have it deleted."""

import json
from collections.abc import Iterable
from datetime import timedelta
from ipaddress import ip_network

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from apikeys.keys import format as keyformat
from apikeys.models import ApiKey, KeyDeleted, LeakReport
from console.access import client_address
from console.factors.authentication import evenly
from console.ledger.models import Kind

MAX_KEYS = 100
MAX_BYTES = 64 << 10
REPORTS_A_MINUTE = 10  # from one address
SECONDS = 0.5  # that every report takes, so that its time does not tell which keys there are


def revoke(secrets: Iterable[str], who: str) -> int:
    """Delete the keys with those secrets; how many there were that were not deleted already."""
    deleted = 0
    for secret in dict.fromkeys(secrets):
        if not keyformat.well_formed(secret):
            continue
        for key in ApiKey.objects.active().filter(digest__in=settings.VAULT.digests("api-key", secret)):
            try:
                key.delete(kind=Kind.KEY_LEAKED, who=who)
                deleted += 1
            except KeyDeleted:
                continue
    return deleted


@csrf_exempt
@require_POST
def report(request: HttpRequest) -> HttpResponse:
    """`{"keys": ["sk-…"]}`, or a key a line; 202 whether or not one of them exists."""
    if too_many_from(client_address(request)):
        answer = JsonResponse({"message": "Too many reports from your address. Try again in a minute."}, status=429)
        answer.headers["Retry-After"] = "60"
        return answer
    try:
        secrets = keys_in(request)
    except (ValueError, RecursionError):
        message = f'Send {{"keys": ["sk-..."]}} as JSON, or a key a line: at most {MAX_KEYS}, {MAX_BYTES >> 10} kB.'
        return JsonResponse({"message": message}, status=400)
    with evenly(SECONDS):
        revoke(secrets, "a leak report")
    return JsonResponse({"received": len(secrets)}, status=202)


def too_many_from(address: str | None) -> bool:
    """Counts this report first: of many at once no more pass than one after the other."""
    if address and ":" in address:  # whoever has one address of IPv6 has the network
        address = str(ip_network(f"{address}/64", strict=False).network_address)
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
