"""Whether an account keeps copies of its API keys that can be viewed again."""

from typing import Any

from django import forms
from django.contrib import messages
from django.db import transaction
from django.http import HttpResponse
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


class ShowOnceForm(SecurityForm):
    """`existing` is what becomes of the copies that there are. The owner says so, and nothing is chosen beforehand."""

    existing = forms.ChoiceField(
        choices=[
            ("keep", gettext_lazy("Keep them: I can still view these keys.")),
            ("delete", gettext_lazy("Delete them: these keys still work, and can no longer be viewed.")),
            ("again", ""),  # a button: new keys have a copy again
        ],
        widget=forms.RadioSelect(choices=[]),
        error_messages={"required": gettext_lazy("Choose what becomes of the copies of your existing API keys.")},
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        existing, code = self.fields["existing"], self.fields["otp_token"]
        existing.widget.choices = existing.choices[:2]  # type: ignore[attr-defined]
        code.widget.attrs.pop("autofocus")  # what there is to read is above it


class ShowOnce(SecuredView):
    template_name = "apikeys/show_once.html"
    form_class = ShowOnceForm

    def act(self, form: ShowOnceForm) -> HttpResponse:
        existing, count = form.cleaned_data["existing"], 0
        with transaction.atomic():
            account = lock(user_of(self.request))
            show_once = existing != "again"
            if account.show_once != show_once:
                record(Kind.SHOW_ONCE_ON if show_once else Kind.SHOW_ONCE_OFF, account)
                account.show_once = show_once
                account.save(update_fields=["show_once"])
            if existing == "delete" and (count := ApiKey.objects.of(account).delete_copies()):
                record(Kind.COPIES_DELETED, account, count=count)
        if count:
            messages.success(self.request, _("The copies of your existing API keys have been deleted."))
        said = _("API keys that you create from now on are shown once.")
        messages.success(
            self.request, said if show_once else _("A copy of each API key that you create from now on is kept.")
        )
        return redirect("console:security")

    def context(self) -> dict[str, Any]:
        return {"copies": ApiKey.objects.of(user_of(self.request)).active().exclude(sealed_secret=None).count()}
