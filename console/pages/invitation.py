"""A new user's first password: by a link that an operator hands over, signed, good once and for a day. So no operator
ever knows a password."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.contrib.auth.tokens import default_token_generator
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.generic import View

from console.ledger import models as ledger
from console.ledger.models import Kind
from console.models import User


def invite(user: User) -> str:
    """The link. Raises ValueError where the user has a password already: a link would be a way past it."""
    if user.has_usable_password():
        raise ValueError(f"{user} has a password already; only its owner can change it.")
    with transaction.atomic():
        ledger.record(Kind.INVITED, user, detail=f"{user}")
    path = reverse("console:invitation", args=[user.pk, default_token_generator.make_token(user)])
    return f"{settings.CONSOLE_URL}{path}"


class FirstPasswordForm(forms.Form):
    new_password = forms.CharField(
        label="Password",
        strip=False,
        max_length=4096,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password", "autofocus": True}),
    )

    def __init__(self, user: User, *args: Any) -> None:
        super().__init__(*args)
        self.user = user

    def clean_new_password(self) -> str:
        password: str = self.cleaned_data["new_password"]
        validate_password(password, self.user)
        return password


class Invitation(View):
    def get(self, request: HttpRequest, user_id: int, token: str) -> HttpResponse:
        user = invited(user_id, token)
        return self.page(user, FirstPasswordForm(user)) if user else self.over()

    def post(self, request: HttpRequest, user_id: int, token: str) -> HttpResponse:
        with transaction.atomic():
            user = invited(user_id, token)
            if user:
                ledger.lock(user.root)
                user = invited(user_id, token)  # as it is now
            if user is None:
                return self.over()
            form = FirstPasswordForm(user, request.POST)
            if not form.is_valid():
                return self.page(user, form, 422)
            user.set_password(form.cleaned_data["new_password"])
            user.save(update_fields=["password"])
            ledger.record(Kind.PASSWORD_CHANGED, user, who=user.username, detail=f"of {user}, by invitation")
        return redirect("console:logon")

    def page(self, user: User, form: FirstPasswordForm, status: int = 200) -> HttpResponse:
        return render(self.request, "console/invitation.html", {"form": form, "invited": user}, status=status)

    def over(self) -> HttpResponse:
        return render(self.request, "console/invitation.html", {}, status=410)


def invited(user_id: int, token: str) -> User | None:
    user = User.objects.filter(pk=user_id, is_active=True).first()
    return user if user and default_token_generator.check_token(user, token) else None
