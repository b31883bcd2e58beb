"""Leaked keys: whoever has one whole can have it deleted."""

from collections.abc import Iterable

from django.conf import settings

from apikeys.keys.format import well_formed
from apikeys.keys.models import ApiKey, KeyDeleted


def revoke_leaked(secrets: Iterable[str]) -> int:
    """Revoke the keys with those secrets and return how many were not deleted before."""
    revoked = 0
    for secret in filter(well_formed, dict.fromkeys(secrets)):
        for key in ApiKey.objects.active().filter(digest__in=settings.VAULT.digests("api-key", secret)):
            try:
                key.revoke("leaked")
                revoked += 1
            except KeyDeleted:
                continue
    return revoked
