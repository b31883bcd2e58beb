"""Leaked keys: whoever has one whole can have it deleted."""

from collections.abc import Iterable
from typing import NamedTuple

from django.conf import settings

from apikeys.keys.format import well_formed
from apikeys.keys.models import ApiKey, KeyDeleted

BATCH = 100  # keys


class Leak(NamedTuple):
    secret: str
    url: str = ""  # where it was found, as far as the report says


def revoke_leaked(leaks: Iterable[Leak], *, signed: bool = False) -> int:
    """Revoke the keys with those secrets and return how many were not deleted before. `signed` says whether the report
    has a verified signature."""
    urls: dict[str, str] = {}
    for leak in leaks:
        urls[leak.secret] = urls.get(leak.secret) or leak.url
    secrets, revoked = [*filter(well_formed, urls)], 0
    for begin in range(0, len(secrets), BATCH):
        revoked += revoke_batch(secrets[begin : begin + BATCH], urls, signed)
    return revoked


def revoke_batch(secrets: list[str], urls: dict[str, str], signed: bool) -> int:
    """With one look-up for all of them."""
    by_digest = {digest: secret for secret in secrets for digest in settings.VAULT.digests("api-key", secret)}
    revoked = 0
    for key in ApiKey.objects.active().filter(digest__in=by_digest).select_related("account"):
        url = urls[by_digest[bytes(key.digest)]]
        try:
            key.revoke("leaked", {"reason": "signed" if signed else "reported", "url": url} if url else None)
            revoked += 1
        except KeyDeleted:
            continue
    return revoked
