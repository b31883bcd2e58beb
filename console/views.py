"""The log-on in two steps, and the factors."""

import unicodedata
from datetime import timedelta
from functools import cached_property
from io import BytesIO
from typing import Any

import django_otp
import qrcode
from axes.models import AccessAttempt
from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import authenticate, update_session_auth_hash
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.password_validation import validate_password
from django.contrib.auth.views import LoginView, LogoutView
from django.db import transaction
from django.db.models import Sum
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.safestring import SafeString, mark_safe
from django.views.generic import RedirectView, TemplateView, View
from qrcode.image.svg import SvgPathImage

from console import ledger, sessions
from console.access import client_address, log_on_step, next_address, user_of
from console.ledger import Entry, Kind
from console.models import Authenticator, CodeRefused, Factor, RecoveryCodes, User
from console.security import MALFORMED, SecurityForm, evenly, is_totp
from console.sessions import Session

KNOWN = timedelta(days=90)  # for how long an address counts as one that its owner logs on from
COOL_OFF = timedelta(hours=settings.AXES_COOLOFF_TIME)
FROM_EVERYWHERE = "from addresses that it was never logged on from"
RECORD_SECONDS = (
    0.1  # that every failed log-on takes for its record, so that its time does not tell which names there are
)
ENROLLING_SESSION_KEY = "enrolling"  # the id of the authenticator that this session is about to confirm


class Home(RedirectView):
    pattern_name = "apikeys:list"
    http_method_names = ["get", "head", "options"]


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


class LogOn(LoginView):
    """The password; the next page asked for leads on to the second step."""

    template_name = "console/logon.html"
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


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    message = "This form is out of date. Go back, reload the page and send it again; nothing was changed."
    return render(request, "403.html", {"heading": "Form out of date", "exception": message}, status=403)


def plain_page(request: HttpRequest, status: int) -> HttpResponse:
    """A page without the user, whom the database may not be there to name."""
    page = render_to_string(f"{status}.html", {"nonce": str(request.csp_nonce)})  # type: ignore[attr-defined]
    return HttpResponse(page, status=status)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return plain_page(request, 400)


def server_error(request: HttpRequest) -> HttpResponse:
    return plain_page(request, 500)


def verify_session(request: HttpRequest, factor: Factor) -> None:
    """The log-on's second step is done (or a factor replaced): under a new session key, as after the first."""
    if not user_of(request).is_verified():
        with transaction.atomic():
            ledger.record(Kind.LOGGED_ON, user_of(request), factor=factor.name)
    request.session.cycle_key()
    django_otp.login(request, factor)


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


class CurrentForm(SecurityForm):
    """The code that allows an authenticator to be replaced."""

    prefix = "current"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.fields["otp_token"].label = "Code of the app that you used so far, or a recovery code"
        if not self.is_bound:
            del self.fields["otp_token"].widget.attrs["autofocus"]


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
        if factor is None:
            factor = Authenticator.pending(user)
            self.request.session[ENROLLING_SESSION_KEY] = factor.pk
        return factor

    def get(self, request: HttpRequest) -> HttpResponse:
        return self.page(EnrolForm(self.pending), CurrentForm())

    def post(self, request: HttpRequest) -> HttpResponse:
        form = EnrolForm(self.pending, request.POST)
        current = CurrentForm(request.POST)
        if not form.is_valid():
            return self.page(form, current, 422)
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
    """Ten new recovery codes in place of the old, after security authentication."""

    def get(self, request: HttpRequest) -> HttpResponse:
        return render(request, "console/new_recovery_codes.html", {"form": SecurityForm()})

    def post(self, request: HttpRequest) -> HttpResponse:
        form = SecurityForm(request.POST)
        if form.authenticate(user_of(request)) is None:
            return render(request, "console/new_recovery_codes.html", {"form": form}, status=form.status)
        codes = RecoveryCodes.issue(user_of(request))
        return render(request, "console/recovery_codes.html", {"codes": codes, "next": next_address(request)})


class PasswordForm(SecurityForm):
    current_password = forms.CharField(
        strip=False, widget=forms.PasswordInput(attrs={"autocomplete": "current-password", "autofocus": True})
    )
    new_password = forms.CharField(
        strip=False, max_length=4096, widget=forms.PasswordInput(attrs={"autocomplete": "new-password"})
    )
    field_order = ["current_password", "new_password", "otp_token"]

    def __init__(self, request: HttpRequest, *args: Any) -> None:
        super().__init__(*args)
        self.request = request
        del self.fields["otp_token"].widget.attrs["autofocus"]

    def clean_current_password(self) -> str:
        password: str = self.cleaned_data["current_password"]
        if authenticate(self.request, username=user_of(self.request).get_username(), password=password) is None:
            raise forms.ValidationError("This is not your password.")
        return password

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
            if form.has_error("current_password"):
                record_failure(Kind.PASSWORD_REFUSED, request)
            return render(request, "console/password.html", {"form": form}, status=form.status)
        with transaction.atomic():
            ledger.record(Kind.PASSWORD_CHANGED, user, detail=f"of {user}")
            user.set_password(form.cleaned_data["new_password"])
            user.save(update_fields=["password"])
            user.sessions.exclude(session_key=request.session.session_key).delete()
        update_session_auth_hash(request, user)
        messages.success(request, "Your password is changed. All your other sessions are ended.")
        return redirect("console:security")


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
