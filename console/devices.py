"""Device cookies: a browser that a user has logged on with is not locked out by strangers who guess at the user's
password (OWASP, "Slow Down Online Guessing Attacks with Device Cookies").

The cookie opens nothing: whoever has it may try passwords of that one user, within a limit of its own.
"""

import secrets

from django.conf import settings
from django.core.signing import BadSignature, TimestampSigner
from django.http import HttpRequest, HttpResponse

from console.accounts import User

COOKIE = "__Host-device" if settings.HTTPS else "device"


def signer(user: User) -> TimestampSigner:
    """Bound to the user and the password: a new password invalidates the cookies of all browsers, also a thief's."""
    return TimestampSigner(salt=f"console.devices:{user.pk}:{user.password}")


def known_device(request: HttpRequest, name: str) -> str:
    """The id of the browser if that user has logged on with it, otherwise ""."""
    cookie = request.COOKIES.get(COOKIE, "")
    user = User.objects.named(name) if cookie else None
    try:
        return signer(user).unsign(cookie, max_age=settings.FAMILIAR) if user else ""
    except BadSignature:
        return ""


def remember(request: HttpRequest, response: HttpResponse, user: User) -> None:
    """Call it when the user has logged on, with a factor."""
    device = known_device(request, user.username) or secrets.token_urlsafe(16)
    response.set_cookie(
        COOKIE,
        signer(user).sign(device),
        max_age=settings.FAMILIAR,
        secure=settings.HTTPS,
        httponly=True,
        samesite="Strict",
    )
