"""Passwords: who may log on with one, and the limits on guessing them."""

import logging
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.auth.backends import ModelBackend
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone

from console.accounts import LONGEST_NAME, User, folded, lock
from console.browsers import browser_and_system
from console.devices import known_device
from console.factors.models import Authenticator
from console.factors.refusals import PasswordRefused
from console.ledger.kinds import Kind
from console.ledger.models import Entry
from console.ledger.record import record, record_or_rehearse
from console.origin import Actor, ActorKind, Origin, acting, client_address, current_origin
from console.proxies import SITE, network_of
from console.rate_limits import Exhausted, RateLimit, exhausted, give_back, reset, take
from console.sessions.store import Session, stored_key

logger = logging.getLogger(__name__)


class PasswordBackend(ModelBackend):
    def user_can_authenticate(self, user: Any) -> bool:
        return bool(user.may_log_on)


def submitted_name(request: HttpRequest) -> str:
    """The user name that a password was submitted for, as the form reads it. Of one that is too long for a user's, the
    rest is left out first: to normalize 128 KiB of accents takes seconds."""
    return unicodedata.normalize("NFKC", request.POST.get("username", "").strip()[: LONGEST_NAME + 1])


def log_on_limits(request: HttpRequest) -> list[RateLimit]:
    """The limits on the password that was submitted; a right one resets the first. A browser that the user has logged
    on with has a limit of its own, so that strangers cannot lock it out. Raises Exhausted."""
    name, address = submitted_name(request), client_address(request) or ""
    subject, network, site = folded(name), network_of(address), network_of(address, SITE)
    if device := known_device(request, name):
        own = RateLimit("device", settings.GUESSES_PER_DEVICE, subject=subject, caller=device)
        if not exhausted([own]):
            return [own]
    unfamiliar = RateLimit("unfamiliar", settings.GUESSES_PER_ACCOUNT, subject=subject)
    limits = [
        RateLimit("address", settings.GUESSES_PER_NAME_AND_NETWORK, subject=subject, caller=network),
        RateLimit("network", settings.GUESSES_PER_NETWORK, caller=network),
        RateLimit("site", settings.GUESSES_PER_SITE, caller=site),
        unfamiliar,
    ]
    spent = exhausted(limits)
    if spent == [unfamiliar] and is_familiar(name, address):
        limits.remove(unfamiliar)
    elif spent:
        raise Exhausted
    return limits


def is_familiar(name: str, address: str) -> bool:
    """Whether that user has lately logged on from the network of that IP address."""
    user = User.objects.named(name)
    return user is not None and network_of(address) in {network_of(used) for used, _ in lately_used(user)}


def lately_used(user: User) -> list[tuple[str, str]]:
    """The IP addresses and browsers that the user has logged on with."""
    kinds = [*Kind.LOGGED_ON.stored, *Kind.LOGGED_ON_UNFAMILIAR.stored]
    log_ons = Entry.objects.filter(who=user.username, kind__in=kinds, at__gt=timezone.now() - settings.FAMILIAR)
    used = log_ons.order_by().values_list("address", "browser").distinct()
    return [(address or "", browser) for address, browser in used]


def what_is_new(user: User) -> str:
    """What the request at hand has that no log-on of that user had lately: `network`, `browser`, or "" for nothing."""
    origin, used = current_origin(), lately_used(user)
    if network_of(origin.address or "") not in {network_of(address) for address, _ in used}:
        return "network"
    if browser_and_system(origin.browser) not in {browser_and_system(browser) for _, browser in used}:
        return "browser"
    return ""


@contextmanager
def guess(name: str, limits: Sequence[RateLimit]) -> Iterator[None]:
    """Wraps the check of a password for that user name, which raises ValidationError or PasswordRefused if it is wrong.
    Raises Exhausted instead if this was the last one that the limits allow, or without a check if there are none left.
    """
    last_of = take(limits)
    try:
        yield
    except (ValidationError, PasswordRefused):
        of_name = [limit.kind for limit in last_of if limit.subject]
        if of_name:
            record_failure(Kind.LOCKED_OUT, name, reason=of_name[0])
        else:
            record_failure(Kind.PASSWORD_REFUSED, name)
        for limit in last_of:
            if not limit.subject:
                logger.warning("Log-ons from %s are refused after %s incorrect passwords.", limit.caller, limit.most)
        if last_of:
            raise Exhausted from None
        raise
    own, *others = limits
    reset(own)
    give_back(others)


def record_failure(kind: Kind, name: str, **params: Any) -> None:
    """In the ledger of the user's account, if there is such a user."""
    record_or_rehearse(kind, User.objects.named(name), **params)


def report_unfinished_log_ons(before: datetime) -> None:
    """Tell owners of sessions that ended `before`, after the right password and before a right code."""
    ended = Session.objects.filter(expire_date__lt=before, verified=False, user__isnull=False)
    for session in ended.select_related("user__account").defer("user__password", "user__account__password"):
        report_unfinished_log_on(session)


def report_end_of_session(request: HttpRequest) -> None:
    """Before the session at hand is ended."""
    if session := Session.objects.filter(session_key=stored_key(request.session)).first():
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
