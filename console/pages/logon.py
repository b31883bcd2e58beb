"""The log-on's first step, and the log-out."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView, LogoutView
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.access import next_path
from console.logs import SECRET
from console.origin import client_address
from console.proxies import network_of
from console.rate_limits import LONGEST, Exhausted, RateLimit
from console.security import guess, log_on_limits, report_end_of_session
from console.sessions import store as sessions
from console.unavailable import Bottleneck, Busy, nothing_changed, unavailable

# A password takes a third of a second of a processor to check; half of a process's threads stay free for others.
LOG_ONS = Bottleneck(at_once=2, waiting=2, each=2, seconds=2)


class LogOnForm(AuthenticationForm):
    error_messages = {
        "invalid_login": gettext_lazy("The user name or password is incorrect."),
        "inactive": gettext_lazy("This user is disabled. Contact your operator."),
    }

    def __init__(self, *args: Any, limits: Sequence[RateLimit] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limits = limits
        self.fields["username"].label = gettext_lazy("User name")
        if self.is_bound:
            del self.fields["username"].widget.attrs["autofocus"]
            self.fields["password"].widget.attrs["autofocus"] = True

    def clean_username(self) -> str:
        name: str = self.cleaned_data["username"]
        if SECRET.search(name):  # submitted names are kept for a while, and a key must not be
            raise forms.ValidationError(_("This is an API key. Enter your user name."))
        return name

    def clean(self) -> dict[str, Any]:
        """Raises Exhausted if the password may not be checked."""
        if not {"username", "password"} <= self.cleaned_data.keys():
            return self.cleaned_data
        with guess(self.cleaned_data["username"], self.limits):
            return super().clean()


class LogOn(LoginView):
    """The password; the page that is asked for next leads on to the second step."""

    template_name = "console/logon.html"
    http_method_names = ["get", "head", "post", "options"]
    form_class = LogOnForm
    redirect_authenticated_user = True
    limits: Sequence[RateLimit] = ()

    def get_redirect_url(self, request: HttpRequest | None = None) -> str:
        return next_path(self.request)

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "limits": self.limits}

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            self.limits = log_on_limits(request)
            with LOG_ONS.passed(network_of(client_address(request) or "")):
                return super().post(request)
        except Exhausted:
            return self.locked_out(request)
        except Busy:
            return unavailable(request, _("Too many people are logging on at the moment."), nothing_changed())

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        response = super().form_valid(form)
        sessions.begin(self.request)
        return response

    def form_invalid(self, form: forms.BaseForm) -> HttpResponse:
        return self.render_to_response(self.get_context_data(form=form), status=422)

    def locked_out(self, request: HttpRequest) -> HttpResponse:
        wait = {"Retry-After": str(LONGEST.seconds)}
        locked = _("Too many incorrect passwords for this user name, or from your network. Try again in 15 minutes.")
        return self.render_to_response({"form": LogOnForm(request), "locked": locked}, status=429, headers=wait)


class LogOut(LogoutView):
    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        report_end_of_session(request)
        response = super().post(request, *args, **kwargs)
        response.headers["Clear-Site-Data"] = '"cache", "storage"'  # no "cookies": the browser stays a known one
        response.delete_cookie(settings.CSRF_COOKIE_NAME)
        return response
