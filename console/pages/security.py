"""The pages of one's own security: factors, password, sessions."""

from functools import cached_property
from io import BytesIO
from typing import Any

import qrcode
from django import forms
from django.contrib import messages
from django.contrib.auth import authenticate, update_session_auth_hash
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.safestring import SafeString, mark_safe
from django.views.generic import TemplateView, View
from qrcode.image.svg import SvgPathImage

from console.access import client_address, log_on_step, next_address, user_of
from console.factors.authentication import MALFORMED, SecurityForm, is_totp
from console.factors.models import Authenticator, CodeRefused, RecoveryCodes
from console.ledger import models as ledger
from console.ledger.models import Kind
from console.outbox import Mail
from console.pages.logon import FROM_EVERYWHERE, guessed_too_often, record_failure, verify_session
from console.sessions.store import Session
from console.vault import VaultError

ENROLLING_SESSION_KEY = "enrolling"  # the id of the authenticator that this session is about to confirm


class EnrolForm(SecurityForm):
    """A code of the authenticator that is about to be put in force."""

    def __init__(self, pending: Authenticator, *args: Any) -> None:
        super().__init__(*args)
        self.pending = pending
        self.fields["otp_token"].label = "Code that the app shows"

    def clean_otp_token(self) -> str:
        code: str = self.cleaned_data["otp_token"].replace(" ", "")
        refused = self.pending.spend(code) if is_totp(code) else CodeRefused(MALFORMED)
        if refused:
            raise forms.ValidationError(str(refused))
        return code


class ReauthenticationForm(SecurityForm):
    """What a change of one's own factors asks for: the password and a code (OWASP ASVS 5.0, 7.5.1)."""

    password = forms.CharField(
        label="Your password",
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password", "autofocus": True}),
    )
    field_order = ["password", "otp_token"]

    def __init__(self, request: HttpRequest, *args: Any) -> None:
        super().__init__(*args)
        self.request = request
        del self.fields["otp_token"].widget.attrs["autofocus"]

    def clean_password(self) -> str:
        password: str = self.cleaned_data["password"]
        if guessed_too_often(user_of(self.request).get_username(), client_address(self.request)):
            record_failure(Kind.LOCKED_OUT, self.request, detail=FROM_EVERYWHERE)
            raise forms.ValidationError("Too many wrong passwords for your user name. Try again in at most 15 minutes.")
        if authenticate(self.request, username=user_of(self.request).get_username(), password=password) is None:
            record_failure(Kind.PASSWORD_REFUSED, self.request)
            raise forms.ValidationError("This is not your password.")
        return password


class CurrentForm(ReauthenticationForm):
    """What allows an authenticator to be replaced."""

    prefix = "current"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        del self.fields["password"].widget.attrs["autofocus"]
        self.fields["otp_token"].label = "Code of the app that you used so far, or a recovery code"


class Enrol(View):
    """Enrols an authenticator; where there is one already, replaces it, which the old one has to allow."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        self.replacing = Authenticator.objects.filter(user=user_of(request), confirmed=True).exists()
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
        except VaultError as error:  # it was changed from outside; another takes its place
            with transaction.atomic():
                ledger.record(Kind.FACTOR_DAMAGED, user, detail=str(error))
            secret = None
        if factor is None or secret is None:
            factor = Authenticator.pending(user)
            self.request.session[ENROLLING_SESSION_KEY] = factor.pk
        return factor

    def get(self, request: HttpRequest) -> HttpResponse:
        if self.replacing:  # whoever looked before, in a session that is open somewhere, does not know this one
            seen = request.session.pop(ENROLLING_SESSION_KEY, None)
            Authenticator.objects.filter(user=user_of(request), confirmed=False, pk=seen).delete()
        return self.page(EnrolForm(self.pending), CurrentForm(request))

    def post(self, request: HttpRequest) -> HttpResponse:
        form = EnrolForm(self.pending, request.POST)
        if not form.is_valid():
            return self.page(form, CurrentForm(request), 422)
        current = CurrentForm(request, request.POST)
        if self.replacing and current.authenticate(user_of(request)) is None:
            return self.page(form, current, current.status)
        try:
            codes = self.pending.confirm(replacing=self.replacing, session=request.session.session_key)
        except CodeRefused as refused:
            form.add_error("otp_token", str(refused))
            return self.page(form, current, refused.status)
        del request.session[ENROLLING_SESSION_KEY]
        verify_session(request, self.pending)
        return render(request, "console/recovery_codes.html", {"codes": codes, "next": next_address(request)})

    def page(self, form: EnrolForm, current: CurrentForm, status: int = 200) -> HttpResponse:
        context = {
            "form": form,
            "current": current,
            "replacing": self.replacing,
            "secret": self.pending.secret_text,
            "qr_code": qr_code(self.pending.address),
            "next": next_address(self.request),
        }
        return render(self.request, "console/authenticator.html", context, status=status)


def qr_code(text: str) -> SafeString:
    """`text` as an SVG element of one path, which needs no style of its own."""
    image = BytesIO()
    qrcode.make(text, image_factory=SvgPathImage, box_size=10).save(image)
    svg = image.getvalue().decode()
    return mark_safe(svg[svg.index("<svg") :])


class Security(TemplateView):
    """The factors of whoever is logged on."""

    template_name = "console/security.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        user = user_of(self.request)
        return super().get_context_data(
            authenticator=Authenticator.objects.filter(user=user, confirmed=True).first(),
            recovery_codes=RecoveryCodes.objects.filter(user=user).first(),
            **kwargs,
        )


class NewRecoveryCodes(View):
    """Ten new recovery codes in place of the old, for the password and a code."""

    def get(self, request: HttpRequest) -> HttpResponse:
        return render(request, "console/new_recovery_codes.html", {"form": ReauthenticationForm(request)})

    def post(self, request: HttpRequest) -> HttpResponse:
        form = ReauthenticationForm(request, request.POST)
        if form.authenticate(user_of(request)) is None:
            return render(request, "console/new_recovery_codes.html", {"form": form}, status=form.status)
        codes = RecoveryCodes.issue(user_of(request))
        return render(request, "console/recovery_codes.html", {"codes": codes, "next": next_address(request)})


class PasswordForm(ReauthenticationForm):
    new_password = forms.CharField(
        strip=False, max_length=4096, widget=forms.PasswordInput(attrs={"autocomplete": "new-password"})
    )
    field_order = ["password", "new_password", "otp_token"]

    def clean_new_password(self) -> str:
        password: str = self.cleaned_data["new_password"]
        validate_password(password, user_of(self.request))
        return password


class Password(View):
    """A new password, for the old one and a code; it ends all other sessions."""

    def get(self, request: HttpRequest) -> HttpResponse:
        return render(request, "console/password.html", {"form": PasswordForm(request)})

    def post(self, request: HttpRequest) -> HttpResponse:
        form, user = PasswordForm(request, request.POST), user_of(request)
        if form.authenticate(user) is None:
            return render(request, "console/password.html", {"form": form}, status=form.status)
        with transaction.atomic():
            ledger.record(Kind.PASSWORD_CHANGED, user, detail=f"of {user}")
            user.set_password(form.cleaned_data["new_password"])
            user.save(update_fields=["password"])
            user.sessions.exclude(session_key=request.session.session_key).delete()
        update_session_auth_hash(request, user)
        messages.success(request, "Your password is changed. All your other sessions are ended.")
        return redirect("console:security")


class EmailForm(ReauthenticationForm):
    email = forms.EmailField(
        label="Mail address",
        required=False,
        widget=forms.EmailInput(attrs={"autocomplete": "email", "autofocus": True}),
    )
    field_order = ["email", "password", "otp_token"]

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        del self.fields["password"].widget.attrs["autofocus"]


class Email(View):
    """Where the owner is told of what happens to the account; the address before is told of a new one."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        user = user_of(request)
        if not user.is_root_account:
            raise PermissionDenied(f"Mail goes to the owner of the root account {user.root}, who chooses the address.")
        return super().dispatch(request, *args, **kwargs)

    def get(self, request: HttpRequest) -> HttpResponse:
        form = EmailForm(request)
        form.initial["email"] = user_of(request).email
        return self.page(form)

    def post(self, request: HttpRequest) -> HttpResponse:
        form, user = EmailForm(request, request.POST), user_of(request)
        if form.authenticate(user) is None:
            return self.page(form, form.status)
        address = form.cleaned_data["email"]
        with transaction.atomic():
            user = ledger.lock(user)
            if address != user.email:
                ledger.record(Kind.EMAIL_CHANGED, user, detail=address or "none")
                user.email = address
                user.save(update_fields=["email"])
                Mail.queue(user, "This is your address now", f"Mail about the account {user} goes here from now on.")
        messages.success(request, f"Mail about your account goes to {address or 'nobody'}.")
        return redirect("console:security")

    def page(self, form: EmailForm, status: int = 200) -> HttpResponse:
        return render(self.request, "console/email.html", {"form": form}, status=status)


class SessionsForm(SecurityForm):
    """Which sessions to end."""

    session = forms.MultipleChoiceField(error_messages={"required": "Choose the sessions to end."})

    def __init__(self, others: list[Session], *args: Any) -> None:
        super().__init__(*args)
        self.fields["session"].choices = [(other.name, other.name) for other in others]  # type: ignore[attr-defined]


class Sessions(View):
    """Where one is logged on, to be ended after security authentication (OWASP ASVS 7.5.2)."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        live = user_of(request).sessions.filter(expire_date__gt=timezone.now()).order_by("-seen_at")
        self.others = [session for session in live if session.session_key != request.session.session_key]
        self.sessions = list(live)
        return super().dispatch(request, *args, **kwargs)

    def get(self, request: HttpRequest) -> HttpResponse:
        return self.page(SessionsForm(self.others))

    def post(self, request: HttpRequest) -> HttpResponse:
        form, user = SessionsForm(self.others, request.POST), user_of(request)
        if form.authenticate(user) is None:
            return self.page(form, form.status)
        with transaction.atomic():
            for session in self.others:
                if session.name in form.cleaned_data["session"]:
                    ledger.record(Kind.SESSION_ENDED, user, detail=f"of {user}, {session.address}"[:200])
                    session.delete()
        messages.success(request, "The chosen sessions are ended.")
        return redirect("console:sessions")

    def page(self, form: SessionsForm, status: int = 200) -> HttpResponse:
        context = {"form": form, "sessions": self.sessions, "chosen": form["session"].value() or []}
        return render(self.request, "console/sessions.html", context, status=status)
