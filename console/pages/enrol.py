"""Enrolling an authenticator; where the user has one already, replacing it, which the old one has to allow."""

from functools import cached_property
from io import BytesIO
from typing import Any

import qrcode
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext_lazy as _
from django.views.generic import View
from qrcode.image.svg import SvgPathImage

from console import devices
from console.access import log_on_step, next_path, user_of
from console.factors.authentication import is_totp
from console.factors.forms import ReauthenticationForm, SecurityForm
from console.factors.models import Authenticator
from console.factors.refusals import CodeRefused, Reason
from console.ledger.kinds import Kind
from console.ledger.record import record
from console.pages.recovery import allowed_recovery
from console.pages.secured import authenticated
from console.pages.verify import verify_session
from console.sessions.store import stored_key
from console.vault import VaultError

ENROLLING_SESSION_KEY = "enrolling"  # the id of the authenticator that this session is about to confirm


class EnrolForm(SecurityForm):
    """A code from the authenticator that is being enrolled."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.fields["otp_token"].label = _("Code shown in the app")


class CurrentForm(ReauthenticationForm):
    """What allows an authenticator to be replaced."""

    prefix = "current"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        del self.fields["password"].widget.attrs["autofocus"]
        self.fields["otp_token"].label = _("Code from your current app, or a recovery code")


class Enrol(View):
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        self.recovery = allowed_recovery(request)
        enrolled = Authenticator.objects.filter(user=user_of(request), confirmed=True).exists()
        self.replacing = enrolled and self.recovery is None
        if self.replacing and not user_of(request).is_verified():
            return log_on_step(request, request.get_full_path())
        return super().dispatch(request, *args, **kwargs)

    @cached_property
    def pending(self) -> Authenticator:
        """This session's own: nobody else who knows the password gets to see its secret."""
        chosen = self.request.session.get(ENROLLING_SESSION_KEY)
        user = user_of(self.request)
        factor: Authenticator | None = Authenticator.objects.filter(user=user, confirmed=False, pk=chosen).first()
        try:
            secret = factor and factor.secret
        except VaultError:  # a new one takes its place
            with transaction.atomic():
                record(Kind.FACTOR_DAMAGED, user, user=user.username, factor=Authenticator.kind)
            secret = None
        if factor is None or secret is None:
            factor = Authenticator.pending(user)
            self.request.session[ENROLLING_SESSION_KEY] = factor.pk
        return factor

    def get(self, request: HttpRequest) -> HttpResponse:
        if self.replacing:  # a secret seen before, in a session left open somewhere, is not the one to be enrolled
            seen = request.session.pop(ENROLLING_SESSION_KEY, None)
            Authenticator.objects.filter(user=user_of(request), confirmed=False, pk=seen).delete()
        return self.page(EnrolForm(), CurrentForm())

    def post(self, request: HttpRequest) -> HttpResponse:
        form, current = EnrolForm(request.POST), CurrentForm(request.POST if self.replacing else None)
        if not form.is_valid():
            return self.page(form, CurrentForm(), form.status)
        if refused := self.check(form.cleaned_data["otp_token"].replace(" ", "")):
            form.add_error("otp_token", str(refused))
            return self.page(form, CurrentForm(), refused.status)
        if self.replacing and (not current.is_valid() or authenticated(request, current) is None):
            return self.page(form, current, current.status)
        if self.recovery and not self.recovery.spend():
            return log_on_step(request, request.get_full_path())
        try:
            replacing = self.replacing or self.recovery is not None
            codes = self.pending.confirm(replacing=replacing, session=stored_key(request.session))
        except CodeRefused as refused:
            form.add_error("otp_token", str(refused))
            return self.page(form, current, refused.status)
        del request.session[ENROLLING_SESSION_KEY]
        verify_session(request, self.pending)
        response = render(request, "console/recovery_codes.html", {"codes": codes, "next": next_path(request)})
        devices.remember(request, response, user_of(request))
        return response

    def check(self, code: str) -> CodeRefused | None:
        return self.pending.spend(code) if is_totp(code) else CodeRefused(Reason.MALFORMED)

    def page(self, form: EnrolForm, current: CurrentForm, status: int = 200) -> HttpResponse:
        context = {
            "form": form,
            "current": current,
            "replacing": self.replacing,
            "secret": self.pending.secret_text,
            "qr_code": qr_code(self.pending.uri),
            "next": next_path(self.request),
        }
        return render(self.request, "console/authenticator.html", context, status=status)


def qr_code(text: str) -> SafeString:
    """`text` as an SVG element of one path, which needs no style of its own."""
    image = BytesIO()
    qrcode.make(text, image_factory=SvgPathImage, box_size=10).save(image)
    svg = image.getvalue().decode()
    return mark_safe(svg[svg.index("<svg") :])
