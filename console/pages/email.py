"""The email that notifications about the account are sent to. The previous one is notified of the change."""

from typing import Any

from django import forms
from django.contrib import messages
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.access import user_of
from console.accounts import lock
from console.factors.forms import ReauthenticationForm
from console.ledger.kinds import Kind
from console.ledger.notices import head_line
from console.ledger.record import record
from console.outbox import Email
from console.pages.secured import SecuredView


class EmailForm(ReauthenticationForm):
    email = forms.EmailField(
        label=gettext_lazy("Email"),
        required=False,
        max_length=254,  # of the column
        widget=forms.EmailInput(attrs={"autocomplete": "email"}),
    )
    field_order = ["email", "password", "otp_token"]


class EmailPage(SecuredView):
    template_name = "console/email.html"

    def form(self, *data: Any) -> EmailForm:
        return EmailForm(*data, initial={"email": user_of(self.request).email})

    def act(self, form: EmailForm) -> HttpResponse:
        email = form.cleaned_data["email"]
        with transaction.atomic():
            user = lock(user_of(self.request))
            if email != user.email:
                record(Kind.EMAIL_CHANGED, user, **({"email": email} if email else {"reason": "removed"}))
                user.email = email
                user.save(update_fields=["email"])
                subject = _("Notifications about your account: %s") % user
                text = _("You will receive notifications about the account %s at this email.") % user
                Email.queue(email, subject, f"{text}\n\n{head_line(user.ledger.latest('number'))}")
        if email:
            messages.success(self.request, _("Notifications about your account are sent to %s.") % email)
        else:
            messages.success(self.request, _("Notifications about your account are turned off."))
        return redirect("console:security")
