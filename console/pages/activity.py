"""The Activity page: an account's ledger, and its export."""

from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponseBase
from django.utils.translation import gettext_lazy as _
from django.views.generic import TemplateView, View

from console.access import user_of
from console.ledger.chain import export_lines
from console.ledger.kinds import Kind
from console.ledger.models import Entry, EntryQuerySet
from console.ledger.sentences import actor_name, detail, factor_name
from console.pages.downloads import csv_download
from console.pages.paged import page_of, search_text


class ActivityForm(forms.Form):
    """The filters besides the search; an invalid one is ignored."""

    kind = forms.ChoiceField(choices=[("", _("All events")), *Kind.choices], required=False)
    key = forms.UUIDField(required=False)


class OwnLedger(View):
    """The rows of the logged-on account that match the filters, newest first."""

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        form = ActivityForm(request.GET)
        form.is_valid()
        self.kind, self.key = form.cleaned_data.get("kind"), form.cleaned_data.get("key")
        self.search = search_text(request)

    def ledger(self) -> EntryQuerySet:
        return Entry.objects.filter(account=user_of(self.request))

    def entries(self) -> EntryQuerySet:
        entries = self.ledger()
        if self.kind:
            entries = entries.of_kind(Kind(self.kind))
        if self.key:
            entries = entries.filter(key_id=self.key)
        if self.search:
            entries = entries.search(self.search)
        return entries


class Activity(OwnLedger, TemplateView):
    template_name = "console/activity.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        page = page_of(
            self.request, self.entries().values("number")
        )  # which the index covers: only the rows of the page are read
        entries = [*self.ledger().filter(number__in=page["page_obj"].object_list)]
        events = [
            {
                "entry": entry,
                "label": Kind.of(entry.kind).label,
                "actor": actor_name(entry),
                "factor": factor_name(entry.factor),
                "detail": detail(entry),
            }
            for entry in entries
        ]
        hint = self.search or (entries[0].key if self.key and entries else "")
        filtered = bool(self.kind or self.key or self.search)
        return super().get_context_data(
            **page, events=events, kinds=Kind.choices, kind=self.kind, hint=hint, filtered=filtered, **kwargs
        )


class ActivityCsv(OwnLedger):
    """The rows as a file, oldest first. Unfiltered, it can be verified (console.ledger.verify)."""

    http_method_names = ["get", "head", "options"]

    def get(self, request: HttpRequest) -> HttpResponseBase:
        return csv_download(request, "activity", export_lines(self.entries().rows()))
