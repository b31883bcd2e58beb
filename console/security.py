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
from console.browsers import browser_and_system
from console.factors.models import Authenticator
from console.ledger.kinds import Kind
from console.ledger.models import Entry
from console.ledger.record import record
from console.origin import Actor, ActorKind, Origin, acting, client_address, current_origin, network_of
from console.sessions.store import Session

FAMILIAR = timedelta(days=90)  # how long a network counts as one that the user logs on from
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


def counted_names(name: str) -> tuple[str, str]:
    """What wrong passwords for a user name are counted under, in whatever case it was typed: at the log-on, and in
    sessions that are verified. So strangers at the log-on keep nobody who is logged on from anything. The second is no
    user name that can be submitted, as it is not folded. django-axes stores 255 characters."""
    return folded(name)[:255], f"{folded(name)[:240]} VERIFIED"


def counted_name_of(request: HttpRequest, credentials: dict[str, str]) -> str:
    """That of a request, as django-axes asks for it."""
    user: Any = getattr(request, "user", None)
    verified = hasattr(user, "is_verified") and user.is_verified()  # whoever is about to log on has no such method yet
    return counted_names(credentials["username"])[verified]


def guessed_too_often(request: HttpRequest, name: str) -> bool:
    """Whether that user name is being guessed at from many IP addresses. Networks that its user has logged on from are
    exempt, so that no stranger can lock an owner out."""
    if "\0" in name:
        return False
    now, counted = timezone.now(), counted_name_of(request, {"username": name})
    tries = AccessAttempt.objects.filter(username=counted, attempt_time__gt=now - COOL_OFF)
    if (tries.aggregate(sum=Sum("failures_since_start"))["sum"] or 0) < settings.GUESSES_PER_ACCOUNT:
        return False
    user = User.objects.named(name)
    known = {network_of(address) for address, _ in lately_used(user)} if user else set()
    return network_of(client_address(request)) not in known


def lately_used(user: User) -> list[tuple[str | None, str]]:
    """The IP addresses and browsers that the user has logged on with."""
    kinds = [*Kind.LOGGED_ON.stored, *Kind.LOGGED_ON_UNFAMILIAR.stored]
    log_ons = Entry.objects.filter(who=user.username, kind__in=kinds, at__gt=timezone.now() - FAMILIAR)
    return list(log_ons.order_by().values_list("address", "browser").distinct())


def what_is_new(user: User) -> str:
    """What the request at hand has that no log-on of that user had lately: `network`, `browser`, or "" for nothing."""
    origin, used = current_origin(), lately_used(user)
    if network_of(origin.address) not in {network_of(address) for address, _ in used}:
        return "network"
    if browser_and_system(origin.browser) not in {browser_and_system(browser) for _, browser in used}:
        return "browser"
    return ""


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
            record(Kind.PASSWORD_ACCEPTED, user, user=user.username)
