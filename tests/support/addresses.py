"""Every address of the console, read from the URLconf."""

import uuid
from collections.abc import Iterator

from django.urls import URLPattern, URLResolver, get_resolver


def patterns(found: list[URLPattern | URLResolver], prefix: str = "/") -> Iterator[tuple[str, URLPattern]]:
    for pattern in found:
        address = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            if pattern.namespace != "admin":
                yield from patterns(pattern.url_patterns, address)
        else:
            yield address, pattern


def addresses(key_id: uuid.UUID | None = None) -> list[str]:
    """All of them outside the operators' site, with that key in the place of one."""
    found = [address for address, _ in patterns(get_resolver().url_patterns)]
    return [
        address.replace("<uuid:key_id>", str(key_id or uuid.uuid4()))
        .replace("<int:user_id>", "1")
        .replace("<slug:token>", "none")
        for address in found
    ]


OPEN = ["/", "/login/", "/logout/", "/healthz", "/readyz", "/leaked-keys", "/csp-reports", "/invitation/1/none/"]
OPEN += ["/recovery/none/", "/recovery/cancel/none/"]
PASSWORD_ONLY = ["/login/verify/", "/security/authenticator/"]
