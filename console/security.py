"""Passwords: who may use one, and what limits guessing at them."""

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
from console.factors.models import Authenticator
from console.ledger.budget import record_bounded
from console.ledger.kinds import Kind
from console.ledger.models import Entry
from console.origin import Actor, ActorKind, Origin, acting, network_of
from console.sessions.store import Session

FAMILIAR = timedelta(days=90)  # how long a network counts as one that the user logs on from
COOL_OFF = timedelta(hours=settings.AXES_COOLOFF_TIME)
RECORD_SECONDS = 0.1  # the least time that recording a failed log-on takes


class PasswordBackend(ModelBackend):
    def user_can_authenticate(self, user: Any) -> bool:
        return bool(user.may_log_on)


@contextmanager
def taking_at_least(seconds: float) -> Iterator[None]:
    """Wait at the end until so much time has passed, so that the time of an answer does not show what was found."""
    began = time.monotonic()
    try:
        yield
    finally:
        time.sleep(max(0.0, seconds - (time.monotonic() - began)))


def submitted_name(request: HttpRequest) -> str:
    """The user name that a password was tried for, as the form reads it: of somebody logged on, their own."""
    if request.user.is_authenticated:
        return request.user.get_username()
    return unicodedata.normalize("NFKC", request.POST.get("username", "").strip())


def counted_name(name: str) -> str:
    """What wrong passwords for a user name are counted under, in whatever case it was typed. django-axes stores 255
    characters."""
    return folded(name)[:255]


def counted_name_of(request: HttpRequest, credentials: dict[str, str]) -> str:
    """The same, as django-axes asks for it."""
    return counted_name(credentials["username"])


def guessed_too_often(name: str, address: str | None) -> bool:
    """Whether that user name is being guessed at from many IP addresses. Networks that its user has logged on from are
    exempt, so that no stranger can lock an owner out."""
    if "\0" in name:
        return False
    now = timezone.now()
    tries = AccessAttempt.objects.filter(username=counted_name(name), attempt_time__gt=now - COOL_OFF)
    if (tries.aggregate(sum=Sum("failures_since_start"))["sum"] or 0) < settings.GUESSES_AN_ACCOUNT:
        return False
    user = User.objects.named(name)
    return user is None or not is_familiar(user.username, address)


def is_familiar(name: str, address: str | None) -> bool:
    """Whether that user has logged on from the network of that IP address lately."""
    kinds = [*Kind.LOGGED_ON.stored, *Kind.LOGGED_ON_UNFAMILIAR.stored]
    entries = Entry.objects.filter(who=name, kind__in=kinds, at__gt=timezone.now() - FAMILIAR)
    known = entries.order_by().values_list("address", flat=True).distinct()
    return network_of(address) in map(network_of, known)


def correct_attempts() -> None:
    """Lockouts that a wrong clock dated in the future begin now, and end in time."""
    now = timezone.now()
    AccessAttempt.objects.filter(attempt_time__gt=now + COOL_OFF).update(attempt_time=now)


def record_refused_password(request: HttpRequest) -> None:
    """In the ledger of the account that was meant, if there is one."""
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
        record_bounded(kind, user, actor=Actor(ActorKind.USER, user.username), **params)


def report_unfinished_log_ons() -> None:
    """Tell owners of sessions that ended after the right password and before a right code."""
    ended = Session.objects.filter(expire_date__lt=timezone.now(), verified=False, user__isnull=False)
    for session in ended.select_related("user__account"):
        report_unfinished_log_on(session)


def report_unfinished_log_on(session: Session) -> None:
    """Of a session that ends now."""
    user = session.user
    if user is None or session.verified or not Authenticator.objects.filter(user=user, confirmed=True).exists():
        return
    origin = Origin(lambda: Actor(ActorKind.USER, user.username), session.address, session.browser)
    with transaction.atomic(), acting(origin):
        lock(user.root)
        if Session.objects.filter(pk=session.pk).delete()[0]:
            record_bounded(Kind.PASSWORD_ACCEPTED, user, user=user.username)
