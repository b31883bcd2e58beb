"""The log-on in two steps, and what limits guessing at it."""

import unicodedata
from datetime import timedelta
from typing import Any

import django_otp
from axes.models import AccessAttempt
from django import forms
from django.conf import settings
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView, LogoutView
from django.core.exceptions import NON_FIELD_ERRORS
from django.db import transaction
from django.db.models import Sum
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.generic import View

from console.access import client_address, log_on_step, next_address, user_of
from console.factors.authentication import SecurityForm, evenly
from console.factors.models import Authenticator, Factor
from console.ledger import models as ledger
from console.ledger.models import Entry, Kind
from console.logs import SECRET
from console.models import User
from console.sessions import store as sessions

KNOWN = timedelta(days=90)  # for how long an address counts as one that its owner logs on from
COOL_OFF = timedelta(hours=settings.AXES_COOLOFF_TIME)
FROM_EVERYWHERE = "from addresses that it was never logged on from"
RECORD_SECONDS = 0.1  # that every failed log-on takes for its record: its time does not tell which names there are


class LogOnForm(AuthenticationForm):
    error_messages = {
        "invalid_login": "This user name and password do not match. Check both and try again.",
        "inactive": "This user is disabled. Ask your operator.",
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].label = "User name"
        if self.is_bound:
            del self.fields["username"].widget.attrs["autofocus"]
            self.fields["password"].widget.attrs["autofocus"] = True

    def clean_username(self) -> str:
        name: str = self.cleaned_data["username"]
        if SECRET.search(name):  # what was tried is kept for a while, and a key must not be
            raise forms.ValidationError("This is an API key. Enter your user name.")
        return name


class LogOn(LoginView):
    """The password; the next page asked for leads on to the second step."""

    template_name = "console/logon.html"
    http_method_names = ["get", "head", "post", "options"]
    form_class = LogOnForm
    redirect_authenticated_user = True

    def get_redirect_url(self, request: HttpRequest | None = None) -> str:
        return next_address(self.request)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if guessed_too_often(name_given(request), client_address(request)):
            record_failure(Kind.LOCKED_OUT, request, detail=FROM_EVERYWHERE)
            return locked_out(request)
        return super().post(request, *args, **kwargs)

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        response = super().form_valid(form)
        sessions.begin(self.request)
        return response

    def form_invalid(self, form: forms.BaseForm) -> HttpResponse:
        if NON_FIELD_ERRORS in form.errors:  # else no password was looked at, and nobody fills a ledger with that
            record_failure(Kind.PASSWORD_REFUSED, self.request)
        return self.render_to_response(self.get_context_data(form=form), status=422)


def name_given(request: HttpRequest) -> str:
    """The user name that a log-on was tried with, as the form reads it; of whoever is logged on, his own."""
    if request.user.is_authenticated:
        return user_of(request).get_username()
    return unicodedata.normalize("NFKC", request.POST.get("username", "").strip())


def guessed_too_often(name: str, address: str | None) -> bool:
    """Whether that user name is being guessed at from many addresses. Where its owner has logged on from before is not
    asked, so that no stranger can lock an owner out."""
    if "\0" in name:
        return False
    now = timezone.now()
    since = now - COOL_OFF
    tries = AccessAttempt.objects.filter(username=name, attempt_time__gt=since)
    if (tries.aggregate(sum=Sum("failures_since_start"))["sum"] or 0) < settings.GUESSES_AN_ACCOUNT:
        return False
    known = Entry.objects.filter(kind=Kind.LOGGED_ON, who=name, address=address, at__gt=now - KNOWN)
    return not known.exists()


def record_failure(kind: Kind, request: HttpRequest, detail: str = "") -> None:
    """Write a log-on that failed to the ledger of the account that was meant, if there is one."""
    if kind is Kind.PASSWORD_REFUSED and getattr(request, "axes_locked_out", False):
        return  # no password was looked at; django-axes answers with `locked_out`
    name = name_given(request)
    with evenly(RECORD_SECONDS):
        user = User.objects.filter(username=name).first() if "\0" not in name else None
        if user is None:
            return
        with transaction.atomic():
            ledger.lock(user.root)
            lately = Entry.objects.filter(account=user.root, kind=kind, who=name, at__gt=timezone.now() - COOL_OFF)
            if detail != FROM_EVERYWHERE or not lately.filter(detail=detail).exists():
                ledger.record(kind, user, who=name, detail=detail)


def locked_out(request: HttpRequest, *args: Any) -> HttpResponse:
    """The log-on page where a user name is locked for this address (django-axes)."""
    locked = "Too many wrong passwords for this user name from this address. Try again in at most 15 minutes."
    if getattr(request, "axes_failures_since_start", None):  # it was this attempt that locked it
        record_failure(Kind.LOCKED_OUT, request, detail="from one address")
    return render(request, "console/logon.html", {"form": LogOnForm(request), "locked": locked}, status=429)


def verify_session(request: HttpRequest, factor: Factor) -> None:
    """The log-on's second step is done (or a factor replaced): under a new session key, as after the first."""
    with transaction.atomic():
        if not user_of(request).is_verified():
            ledger.record(Kind.LOGGED_ON, user_of(request), factor=factor.name)
        request.session.cycle_key()
        django_otp.login(request, factor)
        request.session.save()


class LogOut(LogoutView):
    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response = super().post(request, *args, **kwargs)
        response.headers["Clear-Site-Data"] = '"cache", "cookies", "storage"'
        return response


class Verify(View):
    """The second step of the log-on: security authentication with a factor."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if user_of(request).is_verified():
            return redirect(next_address(request))
        if not Authenticator.objects.filter(user=user_of(request), confirmed=True).exists():
            return log_on_step(request, next_address(request))
        return super().dispatch(request, *args, **kwargs)

    def get(self, request: HttpRequest) -> HttpResponse:
        return self.page(SecurityForm())

    def post(self, request: HttpRequest) -> HttpResponse:
        form = SecurityForm(request.POST)
        factor = form.authenticate(user_of(request))
        if factor is None:
            return self.page(form, form.status)
        verify_session(request, factor)
        return redirect(next_address(request))

    def page(self, form: SecurityForm, status: int = 200) -> HttpResponse:
        context = {"form": form, "next": next_address(self.request)}
        return render(self.request, "console/verify.html", context, status=status)
