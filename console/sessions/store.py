"""Sessions in the database, each with its user, so that they can be listed and ended from elsewhere.

A row has the digest of the session key that the cookie carries: a copied database logs nobody on.
"""

import hashlib
import time
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.db import SessionStore as DatabaseSessions
from django.contrib.sessions.base_session import AbstractBaseSession
from django.db import models
from django.http import HttpRequest
from django.utils import timezone
from django_otp import DEVICE_ID_SESSION_KEY

from console.origin import current_origin

BEGAN, SEEN = "began", "seen"  # Unix times within a session
ADDRESS, BROWSER = "address", "browser"
SEEN_SECONDS = 60  # stored no more often


def digest_of(session_key: str) -> str:
    """SHA-256, which needs no key: a session key is random (165 bits)."""
    return hashlib.sha256(session_key.encode()).hexdigest()


def stored_key(session: SessionBase) -> str:
    """What the row of a session has of its key."""
    return digest_of(session.session_key or "")


class Session(AbstractBaseSession):
    session_key = models.CharField(max_length=64, primary_key=True, editable=False)  # its digest
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, null=True, related_name="sessions", editable=False
    )
    verified = models.BooleanField(default=False, editable=False)  # by a factor
    began_at = models.DateTimeField(null=True, editable=False)
    seen_at = models.DateTimeField(null=True, editable=False)
    address = models.GenericIPAddressField(null=True, editable=False)
    browser = models.CharField(max_length=200, editable=False)

    @classmethod
    def get_session_store_class(cls) -> type["SessionStore"]:
        return SessionStore

    @property
    def name(self) -> str:
        """What a page calls it."""
        return self.session_key[:16]


class SessionStore(DatabaseSessions):
    """Ends a session that is idle for SESSION_COOKIE_AGE, and in any case SESSION_SECONDS after the log-on; while no
    factor has been passed, LOGON_SECONDS after the password."""

    @classmethod
    def get_model_class(cls) -> type[Session]:
        return Session

    @classmethod
    def clear_expired(cls, before: datetime | None = None) -> None:
        """Delete those that expired `before`, or until now. Also ends sessions that a wrong clock dated in the future:
        they would outlive their time by as much."""
        Session.objects.filter(expire_date__lt=before or timezone.now()).delete()
        Session.objects.filter(seen_at__gt=moment(time.time() + settings.SESSION_COOKIE_AGE)).delete()

    def _validate_session_key(self, key: str) -> bool:
        """Asks the database only for keys that can be one: PostgreSQL fails on a NUL."""
        return bool(super()._validate_session_key(key)) and key.isascii() and key.isalnum()  # type: ignore[misc]

    def _get_session_from_db(self) -> Session | None:
        session = Session.objects.filter(session_key=stored_key(self), expire_date__gt=timezone.now()).first()
        if session is None:
            self._session_key = None
        return session

    def exists(self, session_key: str) -> bool:
        return super().exists(digest_of(session_key))

    def delete(self, session_key: str | None = None) -> None:
        super().delete(digest_of(session_key or self.session_key or ""))

    def get_expiry_date(self, **kwargs: Any) -> datetime:
        idle: datetime = super().get_expiry_date(**kwargs)
        seconds = settings.SESSION_SECONDS if DEVICE_ID_SESSION_KEY in self else settings.LOGON_SECONDS
        began = self.get(BEGAN)
        return min(idle, moment(began + seconds)) if began else idle

    def create_model_instance(self, data: dict[str, Any]) -> Session:
        session = super().create_model_instance(data)
        assert isinstance(session, Session)
        session.session_key = stored_key(self)
        session.user_id = data.get(SESSION_KEY)
        session.verified = DEVICE_ID_SESSION_KEY in data
        session.began_at = moment(data[BEGAN]) if BEGAN in data else None
        session.seen_at = moment(data[SEEN]) if SEEN in data else None
        session.address, session.browser = data.get(ADDRESS), data.get(BROWSER, "")
        return session


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def begin(request: HttpRequest) -> None:
    """The first step of the log-on succeeded."""
    request.session[BEGAN] = int(time.time())
    note(request)


def see(request: HttpRequest) -> None:
    """The session is in use: it is not idle."""
    if SEEN in request.session and time.time() - request.session[SEEN] >= SEEN_SECONDS:
        note(request)


def note(request: HttpRequest) -> None:
    origin = current_origin()
    request.session[SEEN] = int(time.time())
    request.session[ADDRESS], request.session[BROWSER] = origin.address, origin.browser
