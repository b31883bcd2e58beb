"""Whether an account keeps copies of its API keys that can be viewed again. Less is kept at once; more, with a code."""

from typing import Any

from django import forms
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apikeys.keys.models import ApiKey
from console.access import user_of
from console.accounts import lock
from console.factors.forms import SecurityForm
from console.ledger.kinds import Kind
from console.ledger.record import record
from console.pages.secured import SecuredView

CHOICES = [
    ("keep", gettext_lazy("Keep them: I can still view these keys.")),
    ("delete", gettext_lazy("Delete them: these keys still work, and can no longer be viewed.")),
]


class ExistingForm(forms.Form):
    """What becomes of the copies that there are: the owner says so, and nothing is chosen beforehand."""

    existing = forms.ChoiceField(
        choices=CHOICES,
        widget=forms.RadioSelect,
        error_messages={"required": gettext_lazy("Choose what becomes of the copies of your existing API keys.")},
    )


class ShowOnce(SecuredView):
    """A POST with `existing` keeps less; one with a code keeps copies again."""

    template_name = "apikeys/show_once.html"

    def form(self, *data: Any) -> SecurityForm:
        form = SecurityForm(*data)
        form.fields["otp_token"].widget.attrs.pop("autofocus")  # what there is to read is above it
        return form

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if user_of(request).show_once and "existing" not in request.POST:
            return super().post(request)
        self.choice_form = ExistingForm(request.POST)
        if not self.choice_form.is_valid():
            return self.page(self.form(), 422)
        with transaction.atomic():
            account = lock(user_of(request))
            if not account.show_once:
                record(Kind.SHOW_ONCE_ON, account)
                account.show_once = True
                account.save(update_fields=["show_once"])
            delete = self.choice_form.cleaned_data["existing"] == "delete"
            if count := ApiKey.objects.of(account).delete_copies() if delete else 0:
                record(Kind.COPIES_DELETED, account, count=count)
        if count:
            messages.success(request, _("The copies of your existing API keys have been deleted."))
        messages.success(request, _("API keys that you create from now on are shown once."))
        return redirect("console:security")

    def act(self, form: SecurityForm) -> HttpResponse:
        with transaction.atomic():
            account = lock(user_of(self.request))
            if account.show_once:
                record(Kind.SHOW_ONCE_OFF, account)
                account.show_once = False
                account.save(update_fields=["show_once"])
        messages.success(self.request, _("A copy of each API key that you create from now on is kept."))
        return redirect("console:security")

    def context(self) -> dict[str, Any]:
        """`existing` is what a form says that leaves no choice."""
        account = user_of(self.request)
        return {
            "copies": ApiKey.objects.of(account).active().exclude(sealed_secret=None).count(),
            "choice_form": getattr(self, "choice_form", ExistingForm()),
            "existing": "delete" if account.show_once else "keep",
        }
