"""The operators' pages about operators: what waits for another one, and what all of them did."""

from collections.abc import Sequence
from typing import Any

from django.apps import apps
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.access import user_of
from console.ledger.kinds import Kind
from console.ledger.models import InstallationEntry
from console.ledger.sentences import actor_name, detail
from console.operator_requests import OperatorRequest
from console.operators_admin import OperatorsAdmin


class OperatorRequestAdmin(OperatorsAdmin):
    list_display = ("__str__", "by", "at")
    fields = ("by", "at")
    list_select_related = ("by",)
    actions = ("confirm", "reject")

    def get_queryset(self, request: HttpRequest) -> QuerySet[OperatorRequest]:
        return OperatorRequest.waiting()

    def of(self, asked: OperatorRequest) -> OperatorsAdmin:
        """The pages that it was requested on."""
        found = self.admin_site.get_model_admin(apps.get_model(asked.model))
        assert isinstance(found, OperatorsAdmin)
        return found

    def refusal(self, request: HttpRequest, action: str, chosen: Sequence[OperatorRequest]) -> str:
        if len(chosen) > 1:
            return _("Select one request at a time.")
        for asked in chosen:
            if action == "confirm" and asked.by == user_of(request):
                return _("You requested this yourself. Another operator has to confirm it.")
            if action == "confirm" and (why := self.of(asked).refusal(request, asked.action, asked.rows())):
                return why
        return super().refusal(request, action, chosen)

    def effects(self, action: str, chosen: Sequence[OperatorRequest]) -> list[str]:
        if action == "reject":
            return []
        return self.of(chosen[0]).effects(chosen[0].action, chosen[0].rows())

    @admin.action(description=gettext_lazy("Confirm: it is done at once"))
    def confirm(self, request: HttpRequest, chosen: list[OperatorRequest]) -> HttpResponse | None:
        (asked,) = chosen
        act, rows = getattr(self.of(asked), asked.action), asked.rows()
        done: HttpResponse | None = act(request, rows) if self.end(request, asked, Kind.ACT_CONFIRMED) else None
        return done

    @admin.action(description=gettext_lazy("Reject"))
    def reject(self, request: HttpRequest, chosen: list[OperatorRequest]) -> None:
        if self.end(request, chosen[0], Kind.ACT_REJECTED):
            self.message_user(request, _("The request has been rejected."), messages.SUCCESS)

    def end(self, request: HttpRequest, asked: OperatorRequest, kind: Kind) -> bool:
        ended = asked.end(kind, self.of(asked).owners(asked.rows()))
        if not ended:
            self.message_user(request, _("The request no longer exists."), messages.WARNING)
        return ended


class InstallationEntryAdmin(OperatorsAdmin):
    """The ledger of the installation."""

    list_display = fields = ("number", "at", "event", "actor_shown", "account_shown", "detail_shown", "address")
    list_display_links = None
    list_select_related = ()
    actions = ()

    @admin.display(description=gettext_lazy("Event"))
    def event(self, entry: InstallationEntry) -> Any:
        return Kind(entry.kind).label

    @admin.display(description=gettext_lazy("Actor"))
    def actor_shown(self, entry: InstallationEntry) -> str:
        return actor_name(entry)

    @admin.display(description=gettext_lazy("Account"))
    def account_shown(self, entry: InstallationEntry) -> str:
        return str(entry.params.get("account", ""))

    @admin.display(description=gettext_lazy("Details"))
    def detail_shown(self, entry: InstallationEntry) -> str:
        return detail(entry)
