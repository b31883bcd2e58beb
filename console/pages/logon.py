"""The log-on's first step, and the log-out."""

from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView, LogoutView
from django.core.exceptions import NON_FIELD_ERRORS
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.access import next_path
from console.logs import SECRET
from console.origin import client_address, network_of
from console.security import (
    guessed_too_often,
    record_lockout,
    record_refused_password,
    report_unfinished_log_on,
    submitted_name,
)
from console.sessions import store as sessions
from console.sessions.store import Session
from console.unavailable import Bottleneck, Busy, nothing_changed, unavailable

# A password takes a third of a second of a processor to check; half of a process's threads stay free for others.
LOG_ONS = Bottleneck(at_once=2, waiting=2, each=2, seconds=2)


class LogOnForm(AuthenticationForm):
    error_messages = {
        "invalid_login": gettext_lazy("The user name or password is incorrect."),
        "inactive": gettext_lazy("This user is disabled. Contact your operator."),
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].label = gettext_lazy("User name")
        if self.is_bound:
            del self.fields["username"].widget.attrs["autofocus"]
            self.fields["password"].widget.attrs["autofocus"] = True

    def clean_username(self) -> str:
        name: str = self.cleaned_data["username"]
        if SECRET.search(name):  # submitted names are kept for a while, and a key must not be
            raise forms.ValidationError(_("This is an API key. Enter your user name."))
        return name


class LogOn(LoginView):
    """The password; the page that is asked for next leads on to the second step."""

    template_name = "console/logon.html"
    http_method_names = ["get", "head", "post", "options"]
    form_class = LogOnForm
    redirect_authenticated_user = True

    def get_redirect_url(self, request: HttpRequest | None = None) -> str:
        return next_path(self.request)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            with LOG_ONS.passed(network_of(client_address(request))):
                return self.check(request)
        except Busy:
            return unavailable(request, _("Too many people are logging on at the moment."), nothing_changed())

    def check(self, request: HttpRequest) -> HttpResponse:
        if guessed_too_often(request, submitted_name(request)):
            record_lockout(request, "unfamiliar")
            return locked_out(request)
        return super().post(request)

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        response = super().form_valid(form)
        sessions.begin(self.request)
        return response

    def form_invalid(self, form: forms.BaseForm) -> HttpResponse:
        if NON_FIELD_ERRORS in form.errors:  # otherwise no password was checked, and nothing is recorded
            record_refused_password(self.request)
        return self.render_to_response(self.get_context_data(form=form), status=422)


def locked_out(request: HttpRequest, *args: Any) -> HttpResponse:
    """The log-on page where a user name is locked for this IP address (called by django-axes)."""
    locked = _("Too many incorrect passwords for this user name from this IP address. Try again in 15 minutes.")
    if getattr(request, "axes_failures_since_start", None):  # this attempt locked it
        record_lockout(request, "address")
    return render(request, "console/logon.html", {"form": LogOnForm(request), "locked": locked}, status=429)


class LogOut(LogoutView):
    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        session = Session.objects.filter(session_key=sessions.stored_key(request.session)).first()
        if session:
            report_unfinished_log_on(session)
        response = super().post(request, *args, **kwargs)
        response.headers["Clear-Site-Data"] = '"cache", "cookies", "storage"'
        return response
