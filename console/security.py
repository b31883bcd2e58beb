"""Passwords: who may log on with one, and the limits on guessing them."""

import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from axes.models import AccessAttempt
from django.conf import settings
from django.contrib.auth.backends import ModelBackend
from django.db import transaction
from django.db.models import Sum
from django.http import HttpRequest
from django.utils import timezone

from console.accounts import User, folded, lock
from console.ledger.kinds import Kind
from console.ledger.models import Entry
from console.ledger.record import record
from console.origin import Actor, ActorKind

FAMILIAR = timedelta(days=90)  # how long an IP address counts as one that the user logs on from
COOL_OFF = timedelta(hours=settings.AXES_COOLOFF_TIME)
RECORD_SECONDS = 0.1  # the least time that recording a failed log-on takes


class PasswordBackend(ModelBackend):
    def user_can_authenticate(self, user: Any) -> bool:
        return bool(user.may_log_on)


@contextmanager
def taking_at_least(seconds: float) -> Iterator[None]:
    """Wait at the end until so much time has passed, so that the time of a response does not reveal what was found."""
    began = time.monotonic()
    try:
        yield
    finally:
        time.sleep(max(0.0, seconds - (time.monotonic() - began)))


def submitted_name(request: HttpRequest) -> str:
    """The user name that a password was tried for, as the form reads it; for a logged-on user, their own."""
    if request.user.is_authenticated:
        return request.user.get_username()
    return unicodedata.normalize("NFKC", request.POST.get("username", "").strip())


def counted_name(name: str) -> str:
    """The name that wrong passwords for a user name are counted under, in any case. django-axes stores 255
    characters."""
    return folded(name)[:255]


def counted_name_of(request: HttpRequest, credentials: dict[str, str]) -> str:
    """The same, in the form that django-axes calls (AXES_USERNAME_CALLABLE)."""
    return counted_name(credentials["username"])


def guessed_too_often(name: str, address: str | None) -> bool:
    """Whether passwords for that user name are being guessed from many IP addresses. Addresses that the user has logged
    on from are exempt, so that no stranger can lock an owner out."""
    if "\0" in name:
        return False
    now = timezone.now()
    tries = AccessAttempt.objects.filter(username=counted_name(name), attempt_time__gt=now - COOL_OFF)
    if (tries.aggregate(sum=Sum("failures_since_start"))["sum"] or 0) < settings.GUESSES_PER_ACCOUNT:
        return False
    user = User.objects.named(name)
    log_ons = Entry.objects.of_kind(Kind.LOGGED_ON).filter(who=user.username if user else name)
    return not log_ons.filter(address=address, at__gt=now - FAMILIAR).exists()


def correct_attempts() -> None:
    """Lockouts that a wrong clock dated in the future begin now, and end in time."""
    now = timezone.now()
    AccessAttempt.objects.filter(attempt_time__gt=now + COOL_OFF).update(attempt_time=now)


def record_refused_password(request: HttpRequest) -> None:
    """In the ledger of the user's account, if there is such a user."""
    if not getattr(request, "axes_locked_out", False):  # then no password was checked; `record_lockout` says so
        with taking_at_least(RECORD_SECONDS):
            record_failure(Kind.PASSWORD_REFUSED, submitted_name(request))


def record_lockout(request: HttpRequest, reason: str) -> None:
    """`reason` is `address`, or `unfamiliar`: the latter is recorded once while it lasts."""
    with taking_at_least(RECORD_SECONDS):
        record_failure(Kind.LOCKED_OUT, submitted_name(request), reason=reason)


def record_failure(kind: Kind, name: str, **params: Any) -> None:
    user = User.objects.named(name)
    if user is None:
        return
    with transaction.atomic():
        lock(user.root)
        if params.get("reason") == "unfamiliar":
            since = timezone.now() - COOL_OFF
            lately = Entry.objects.of_kind(kind).filter(account=user.root, who=user.username, at__gt=since)
            if lately.filter(params__reason="unfamiliar").exists():
                return
        record(kind, user, actor=Actor(ActorKind.USER, user.username), **params)
