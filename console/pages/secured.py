"""The base of every page with an action behind security authentication."""

from typing import Any

from django.conf import settings
from django.contrib.auth import authenticate as check_credentials
from django.http import HttpRequest, HttpResponse
from django.views.generic import View
from django.views.generic.base import TemplateResponseMixin

from console.access import user_of
from console.accounts import folded
from console.factors.authentication import authenticate
from console.factors.forms import ReauthenticationForm, SecurityForm
from console.factors.models import Factor
from console.factors.refusals import AuthenticationRefused, PasswordLocked, PasswordRefused, Reason
from console.rate_limits import Exhausted, RateLimit
from console.security import guess


def check_password(request: HttpRequest, password: str) -> None:
    """Check the logged-on user's password. Raises PasswordRefused. Wrong ones are counted per session: no other session
    can lock this one out."""
    name, session = user_of(request).username, request.session.session_key or ""
    limit = RateLimit("session", settings.GUESSES_PER_SESSION, subject=folded(name), caller=session)
    try:
        with guess(name, [limit]):
            if check_credentials(request, username=name, password=password) is None:
                raise PasswordRefused(Reason.WRONG_PASSWORD)
    except Exhausted:
        raise PasswordLocked from None


def authenticated(request: HttpRequest, form: SecurityForm) -> Factor | None:
    """The factor that accepted the code of a valid form. None where anything was refused: the reason is then the form's
    error, and `form.status` the status of the response."""
    try:
        if isinstance(form, ReauthenticationForm):
            check_password(request, form.cleaned_data["password"])
        user = user_of(request)
        return authenticate(user, form.cleaned_data["otp_token"], verified=user.is_verified())
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
