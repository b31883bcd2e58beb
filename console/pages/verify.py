"""The log-on's second step: security authentication with a factor."""

from typing import Any

import django_otp
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect

from console import devices
from console.access import log_on_step, next_path, user_of
from console.factors.forms import SecurityForm
from console.factors.models import Authenticator, Factor
from console.ledger.kinds import Kind
from console.ledger.record import record
from console.pages.secured import SecuredView
from console.recovery import Recovery
from console.security import what_is_new


def verify_session(request: HttpRequest, factor: Factor) -> None:
    """Mark the session as verified by a factor. It gets a new session key, as after the password."""
    with transaction.atomic():
        if not user_of(request).is_verified():
            if new := what_is_new(user_of(request)):
                record(Kind.LOGGED_ON_UNFAMILIAR, user_of(request), by_factor=factor.kind, reason=new)
            else:
                record(Kind.LOGGED_ON, user_of(request), by_factor=factor.kind)
            if recovery := Recovery.found(user=user_of(request)):
                recovery.cancel("logged_on")
        request.session.cycle_key()
        django_otp.login(request, factor)
        request.session.save()


class Verify(SecuredView):
    template_name = "console/verify.html"

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if user_of(request).is_verified():
            return redirect(next_path(request))
        if not Authenticator.objects.filter(user=user_of(request), confirmed=True).exists():
            return log_on_step(request, next_path(request))
        return super().dispatch(request, *args, **kwargs)

    def act(self, form: SecurityForm) -> HttpResponse:
        verify_session(self.request, self.factor)
        response = redirect(next_path(self.request))
        devices.remember(self.request, response, user_of(self.request))
        return response

    def context(self) -> dict[str, Any]:
        return {"next": next_path(self.request)}
