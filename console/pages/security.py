"""The Security page: the user's factors, and new recovery codes."""

from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.views.generic import TemplateView

from console.access import next_path, user_of
from console.factors.forms import ReauthenticationForm
from console.factors.models import Authenticator, RecoveryCodes
from console.outbox import Email
from console.pages.secured import SecuredView


class Security(TemplateView):
    template_name = "console/security.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        user = user_of(self.request)
        return super().get_context_data(
            authenticator=Authenticator.objects.filter(user=user, confirmed=True).first(),
            recovery_codes=RecoveryCodes.objects.filter(user=user).first(),
            undelivered=Email.given_up(user.email),
            **kwargs,
        )


class NewRecoveryCodes(SecuredView):
    """Ten new recovery codes, which replace the earlier ones."""

    template_name = "console/new_recovery_codes.html"
    form_class = ReauthenticationForm

    def act(self, form: ReauthenticationForm) -> HttpResponse:
        codes = RecoveryCodes.issue(user_of(self.request))
        return render(self.request, "console/recovery_codes.html", {"codes": codes, "next": next_path(self.request)})
