"""What a recovery link opens (console.recovery), and the page that cancels it."""

from typing import Any

from django import forms
from django.contrib.auth import logout
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.generic import View

from console.access import user_of
from console.accounts import User
from console.factors.authentication import authenticate
from console.factors.forms import SecurityForm
from console.factors.refusals import CodeRefused
from console.origin import Actor, ActorKind, current_origin
from console.pages.password import NewPasswordForm
from console.recovery import Lost, Recovery
from console.security import report_end_of_session
from console.sessions.store import digest_of

RECOVERY_SESSION_KEY = "recovery"  # the digest of the link that allows this session to enroll an authenticator


class ContinueForm(forms.Form):
    """Asks for nothing: the log-on that follows asks for the password."""

    def __init__(self, user: User, *args: Any) -> None:
        super().__init__(*args)


class ResetForm(NewPasswordForm, SecurityForm):
    """A new password, by a code."""

    field_order = ["new_password", "otp_token"]

    def __init__(self, user: User, *args: Any) -> None:
        super().__init__(user, *args)
        del self.fields["otp_token"].widget.attrs["autofocus"]


FORMS: dict[str, type[Any]] = {Lost.FACTORS: ContinueForm, Lost.PASSWORD: ResetForm, Lost.BOTH: NewPasswordForm}


class RecoveryLink(View):
    recovery: Recovery

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        recovery = Recovery.found(digest=digest_of(kwargs["token"]))
        if recovery is None or not recovery.user.may_log_on:
            return self.page(410)
        self.recovery = recovery
        if not recovery.is_usable:
            return self.page(403, recovery=recovery)
        return super().dispatch(request, *args, **kwargs)

    def get(self, request: HttpRequest, token: str) -> HttpResponse:
        return self.page(200, recovery=self.recovery, form=self.form())

    def post(self, request: HttpRequest, token: str) -> HttpResponse:
        recovery, user = self.recovery, self.recovery.user
        form = self.form(request.POST)
        if not form.is_valid():
            return self.page(422, recovery=recovery, form=form)
        if recovery.lost == Lost.FACTORS:
            report_end_of_session(request)
            logout(request)
            request.session[RECOVERY_SESSION_KEY] = recovery.digest
            return redirect(f"{reverse('console:logon')}?{urlencode({'next': reverse('console:authenticator')})}")
        current_origin().actor = lambda: Actor(ActorKind.USER, user.username)
        if recovery.lost == Lost.PASSWORD:
            try:
                authenticate(user, form.cleaned_data["otp_token"], verified=False)
            except CodeRefused as refused:
                form.add_error(refused.field, str(refused))
                return self.page(refused.status, recovery=recovery, form=form)
        return redirect("console:logon") if recovery.set_password(form.cleaned_data["new_password"]) else self.page(410)

    def form(self, *data: Any) -> Any:
        return FORMS[self.recovery.lost](self.recovery.user, *data)

    def page(self, status: int, **context: Any) -> HttpResponse:
        return render(self.request, "console/recovery.html", context, status=status)


class CancelRecovery(View):
    """For who reads the email of the account. A GET changes nothing: programs that check links open it too."""

    def get(self, request: HttpRequest, token: str) -> HttpResponse:
        recovery = Recovery.found(cancel_digest=digest_of(token))
        return self.page(recovery, 200 if recovery else 410)

    def post(self, request: HttpRequest, token: str) -> HttpResponse:
        recovery = Recovery.found(cancel_digest=digest_of(token))
        if recovery is None:
            return self.page(None, 410)
        account = recovery.user.root.username
        current_origin().actor = lambda: Actor(ActorKind.USER, account)
        recovery.cancel("email")
        return self.page(recovery, 200, cancelled=True)

    def page(self, recovery: Recovery | None, status: int, **context: Any) -> HttpResponse:
        return render(self.request, "console/cancel_recovery.html", {"recovery": recovery, **context}, status=status)


def allowed_recovery(request: HttpRequest) -> Recovery | None:
    """What allows the user, who has entered the password, to enroll an authenticator in this session."""
    recovery = Recovery.found(user=user_of(request), digest=request.session.get(RECOVERY_SESSION_KEY))
    return recovery if recovery and recovery.is_usable else None
