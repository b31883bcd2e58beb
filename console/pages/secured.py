"""The base of every page with an action behind security authentication."""

from typing import Any

from django.contrib.auth import authenticate as check_credentials
from django.http import HttpRequest, HttpResponse
from django.views.generic import View
from django.views.generic.base import TemplateResponseMixin

from console.access import user_of
from console.factors.authentication import authenticate
from console.factors.forms import ReauthenticationForm, SecurityForm
from console.factors.models import Factor
from console.factors.refusals import AuthenticationRefused, PasswordRefused, Reason
from console.origin import client_address
from console.security import guessed_too_often, record_lockout, record_refused_password


def check_password(request: HttpRequest, password: str) -> None:
    """Check the logged-on user's password. Raises PasswordRefused; guesses count as at the log-on."""
    name = user_of(request).get_username()
    if guessed_too_often(name, client_address(request)):
        record_lockout(request, "unfamiliar")
        raise PasswordRefused(Reason.PASSWORD_LOCKED)
    if check_credentials(request, username=name, password=password) is None:
        record_refused_password(request)
        raise PasswordRefused(Reason.WRONG_PASSWORD)


def authenticated(request: HttpRequest, form: SecurityForm) -> Factor | None:
    """The factor that accepted the code of a valid form. None where anything was refused: the reason is then the form's
    error, and `form.status` the status of the response."""
    try:
        if isinstance(form, ReauthenticationForm):
            check_password(request, form.cleaned_data["password"])
        return authenticate(user_of(request), form.cleaned_data["otp_token"])
    except AuthenticationRefused as refused:
        form.add_error(refused.field, str(refused))
        form.status = refused.status
        return None


class SecuredView(TemplateResponseMixin, View):
    """GET shows a form; POST submits it with a code, which serves this one action and no other."""

    form_class: type[SecurityForm] = SecurityForm
    factor: Factor  # that accepted the code

    def form(self, *data: Any) -> Any:
        return self.form_class(*data)

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return self.page(self.form())

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        form = self.form(request.POST)
        factor = authenticated(request, form) if form.is_valid() else None
        if factor is None:
            return self.page(form, form.status)
        self.factor = factor
        return self.act(form)

    def act(self, form: Any) -> HttpResponse:
        raise NotImplementedError

    def page(self, form: Any, status: int = 200) -> HttpResponse:
        return self.render_to_response({"form": form, **self.context()}, status=status)

    def context(self) -> dict[str, Any]:
        """What the page shows besides the form."""
        return {}
