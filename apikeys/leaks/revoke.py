"""Leaked keys: whoever has one whole can have it deleted."""

from collections.abc import Iterable
from typing import NamedTuple

from django.conf import settings

from apikeys.keys.format import well_formed
from apikeys.keys.models import ApiKey, KeyDeleted


class Leak(NamedTuple):
    secret: str
    url: str = ""  # where it was found, as far as the report says


def revoke_leaked(leaks: Iterable[Leak], *, signed: bool = False) -> int:
    """Revoke the keys with those secrets and return how many were not deleted before. `signed` says whether the report
    has a verified signature."""
    urls: dict[str, str] = {}
    for leak in leaks:
        urls[leak.secret] = urls.get(leak.secret) or leak.url
    revoked = 0
    for secret in filter(well_formed, urls):
        facts = {"reason": "signed" if signed else "reported", "url": urls[secret]} if urls[secret] else None
        for key in ApiKey.objects.active().filter(digest__in=settings.VAULT.digests("api-key", secret)):
            try:
                key.revoke("leaked", facts)
                revoked += 1
            except KeyDeleted:
                continue
    return revoked
