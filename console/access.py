"""Access control: every URL is closed until its route opens it."""

from collections.abc import Callable
from enum import Enum
from typing import Any
from urllib.parse import urlencode

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _

from console.accounts import User
from console.factors.models import Authenticator
from console.ledger.kinds import Kind
from console.ledger.record import record
from console.origin import Actor, ActorKind, Origin, acting, client_address
from console.sessions import store as sessions

View = Callable[..., Any]


class Access(Enum):
    ANYONE = "anyone"
    PASSWORD = "password"  # logged on by password, not yet by a factor
    NEW_PASSWORD = "new-password"  # verified, also while the password has to be changed first
    VERIFIED = "verified"
    ROOT = "root"  # verified, and a root account


def open_to(access: Access, view: View) -> View:
    view.access = access  # type: ignore[attr-defined]
    return view


def user_of(request: HttpRequest) -> User:
    """The logged-on user, for a view that requires one."""
    assert isinstance(request.user, User)
    return request.user


def next_path(request: HttpRequest) -> str:
    """Where to go after the log-on: `next` if it is a page of this site, otherwise the list of keys."""
    target = request.POST.get("next") or request.GET.get("next") or ""
    safe = url_has_allowed_host_and_scheme(target, {request.get_host()}, require_https=request.is_secure())
    to_log_on = target.partition("?")[0] == reverse("console:logon")
    return target if safe and not to_log_on else reverse("apikeys:list")


def log_on_step(request: HttpRequest, after: str) -> HttpResponseRedirect:
    """A redirect to the next step of the log-on."""
    # A submitted form is lost, and the page says so: only a GET can be repeated after the log-on.
    query = {"next": after} if request.method in ("GET", "HEAD") else {"ended": "1"}
    if not request.user.is_authenticated:
        step = "console:logon"
    elif Authenticator.objects.filter(user=request.user, confirmed=True).exists():
        step = "console:verify"
    else:
        step = "console:authenticator"
    return redirect(f"{reverse(step)}?{urlencode(query)}")


def refuse_ram_user(request: HttpRequest) -> None:
    """Raises PermissionDenied; an attempt to change something is recorded."""
    user = user_of(request)
    if request.method == "POST":
        with transaction.atomic():
            record(Kind.ACCESS_REFUSED, user)
    raise PermissionDenied(
        _(
            "Only the root account can manage API keys and account settings. You are logged on as a RAM user. Contact "
            "the owner of the root account %(account)s."
        )
        % {"account": user.root}
    )


class AccessMiddleware:
    """Sets the origin of each request, redirects to the next step of the log-on, and renders the page of a 405."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        browser = "".join(filter(str.isprintable, request.headers.get("User-Agent", "")))[:200]
        origin = Origin(lambda: Actor(ActorKind.USER, request.user.get_username()), client_address(request), browser)
        with acting(origin):
            response = self.get_response(request)
        if response.status_code == 405:
            allowed = response.headers["Allow"]
            response = render(request, "405.html", status=405)
            response.headers["Allow"] = allowed
        return response

    def process_view(
        self, request: HttpRequest, view: View, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> HttpResponse | None:
        access = getattr(view, "access", Access.VERIFIED)
        if access is Access.ANYONE:
            return None
        if not request.user.is_authenticated or (access is not Access.PASSWORD and not user_of(request).is_verified()):
            return log_on_step(request, request.get_full_path())
        if user_of(request).is_verified() and user_of(request).must_change_password:
            return None if access is Access.NEW_PASSWORD else redirect("console:password")
        if access is Access.ROOT and not user_of(request).is_root_account:
            refuse_ram_user(request)
        sessions.see(request)
        return None
