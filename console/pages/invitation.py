"""A new user's first password, set through an invitation link (console.operators.invite)."""

from typing import Any

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext_lazy as _
from django.views.generic import View

from console.accounts import User, invitation_tokens, lock
from console.ledger.kinds import Kind
from console.ledger.record import record
from console.origin import Actor, ActorKind
from console.pages.password import NewPasswordForm


class FirstPasswordForm(NewPasswordForm):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.fields["new_password"].label = _("Password")
        self.fields["new_password"].widget.attrs["autofocus"] = True


class Invitation(View):
    def get(self, request: HttpRequest, user_id: int, token: str) -> HttpResponse:
        user = invited(user_id, token)
        return self.page(user, FirstPasswordForm(user)) if user else self.expired()

    def post(self, request: HttpRequest, user_id: int, token: str) -> HttpResponse:
        with transaction.atomic():
            user = invited(user_id, token)
            if user:
                lock(user.root)
                user = invited(user_id, token)  # as it is now
            if user is None:
                return self.expired()
            form = FirstPasswordForm(user, request.POST)
            if not form.is_valid():
                return self.page(user, form, 422)
            user.set_password(form.cleaned_data["new_password"])
            user.save(update_fields=["password"])
            actor = Actor(ActorKind.USER, user.username)
            record(Kind.PASSWORD_CHANGED, user, actor=actor, user=user.username, reason="invitation")
        return redirect("console:logon")

    def page(self, user: User, form: FirstPasswordForm, status: int = 200) -> HttpResponse:
        return render(self.request, "console/invitation.html", {"form": form, "invited": user}, status=status)

    def expired(self) -> HttpResponse:
        return render(self.request, "console/invitation.html", {}, status=410)


def invited(user_id: int, token: str) -> User | None:
    user = User.objects.filter(pk=user_id, is_active=True).first()
    return user if user and invitation_tokens.check_token(user, token) else None
