"""Where one is logged on, and ending those sessions (OWASP ASVS 5.0, 7.5.2)."""

from functools import cached_property
from typing import Any

from django import forms
from django.contrib import messages
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.access import user_of
from console.factors.forms import SecurityForm
from console.ledger.kinds import Kind
from console.ledger.record import record
from console.pages.secured import SecuredView
from console.sessions.store import Session, stored_key


class SessionsForm(SecurityForm):
    session = forms.MultipleChoiceField(error_messages={"required": gettext_lazy("Select the sessions to end.")})

    def __init__(self, others: list[Session], *args: Any) -> None:
        super().__init__(*args)
        self.fields["session"].choices = [(other.name, other.name) for other in others]  # type: ignore[attr-defined]


class Sessions(SecuredView):
    template_name = "console/sessions.html"

    @cached_property
    def sessions(self) -> list[Session]:
        live = user_of(self.request).sessions.filter(expire_date__gt=timezone.now())
        return list(live.order_by("-seen_at"))

    @property
    def others(self) -> list[Session]:
        own = stored_key(self.request.session)
        return [session for session in self.sessions if session.session_key != own]

    def form(self, *data: Any) -> SessionsForm:
        return SessionsForm(self.others, *data)

    def act(self, form: SessionsForm) -> HttpResponse:
        user = user_of(self.request)
        with transaction.atomic():
            for session in self.others:
                if session.name in form.cleaned_data["session"]:
                    record(Kind.SESSION_ENDED, user, user=user.username, address=session.address)
                    session.delete()
        messages.success(self.request, _("The selected sessions have ended."))
        return redirect("console:sessions")

    def page(self, form: SessionsForm, status: int = 200) -> HttpResponse:
        self.chosen = form["session"].value() or []
        return super().page(form, status)

    def context(self) -> dict[str, Any]:
        return {"sessions": self.sessions, "others": self.others, "chosen": self.chosen}
