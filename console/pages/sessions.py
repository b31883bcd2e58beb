"""Where one is logged on, and ending those sessions (OWASP ASVS 5.0, 7.5.2)."""

from collections.abc import Iterable
from functools import cached_property
from typing import Any

from django import forms
from django.contrib import messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.access import user_of
from console.factors.forms import SecurityForm
from console.ledger.kinds import Kind
from console.ledger.record import record
from console.pages.paged import page_of
from console.pages.secured import SecuredView
from console.sessions.store import Session, stored_key


class SessionsForm(SecurityForm):
    session = forms.MultipleChoiceField(error_messages={"required": gettext_lazy("Select the sessions to end.")})

    def __init__(self, others: Iterable[Session], *args: Any) -> None:
        super().__init__(*args)
        self.fields["otp_token"].widget.attrs.pop("autofocus")  # the sessions to choose from are above it
        self.fields["session"].choices = [(other.name, other.name) for other in others]  # type: ignore[attr-defined]


class Sessions(SecuredView):
    """The session at hand first, then the others: a page of those, and any of them can be chosen."""

    template_name = "console/sessions.html"

    def live(self) -> QuerySet[Session]:
        sessions = user_of(self.request).sessions.filter(expire_date__gt=timezone.now())
        return sessions.defer("session_data").order_by("-seen_at", "pk")

    @cached_property
    def own(self) -> str:
        return stored_key(self.request.session)

    @cached_property
    def others(self) -> QuerySet[Session]:
        return self.live().exclude(session_key=self.own)

    def form(self, *data: Any) -> SessionsForm:
        return SessionsForm(self.others if data else (), *data)

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
        page = page_of(self.request, self.others)
        sessions = [*self.live().filter(session_key=self.own), *page["page_obj"]]
        return {**page, "sessions": sessions, "own": self.own, "chosen": self.chosen}
