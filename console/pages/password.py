"""Changing one's own password, which ends all other sessions."""

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.password_validation import validate_password
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console import devices
from console.access import user_of
from console.accounts import User
from console.factors.forms import ReauthenticationForm
from console.ledger.kinds import Kind
from console.ledger.record import record
from console.pages.secured import SecuredView
from console.sessions.store import stored_key


class NewPasswordForm(forms.Form):
    new_password = forms.CharField(
        label=gettext_lazy("New password"),
        strip=False,
        max_length=4096,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    def __init__(self, user: User, *args: Any) -> None:
        super().__init__(*args)
        self.user = user

    def clean_new_password(self) -> str:
        password: str = self.cleaned_data["new_password"]
        validate_password(password, self.user)
        return password


class PasswordForm(NewPasswordForm, ReauthenticationForm):
    field_order = ["password", "new_password", "otp_token"]

    def clean_new_password(self) -> str:
        if self.cleaned_data.get("password") == self.cleaned_data["new_password"]:
            raise forms.ValidationError(_("Choose a password that is different from the current one."))
        return super().clean_new_password()


class Password(SecuredView):
    template_name = "console/password.html"

    def form(self, *data: Any) -> PasswordForm:
        return PasswordForm(user_of(self.request), *data)

    def act(self, form: PasswordForm) -> HttpResponse:
        user, session = user_of(self.request), self.request.session
        with transaction.atomic():
            record(Kind.PASSWORD_CHANGED, user, user=user.username)
            user.set_password(form.cleaned_data["new_password"])
            user.must_change_password = False
            user.save(update_fields=["password", "must_change_password"])
            user.sessions.exclude(session_key=stored_key(session)).delete()
        update_session_auth_hash(self.request, user)
        messages.success(self.request, _("Your password has been changed. All your other sessions have ended."))
        response = redirect("console:security")
        devices.remember(self.request, response, user)
        return response
