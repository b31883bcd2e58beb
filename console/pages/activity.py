"""The Activity page: an account's ledger, and its export."""

from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _
from django.views.generic import ListView

from console.access import user_of
from console.ledger import chain
from console.ledger.kinds import Kind
from console.ledger.models import Entry, EntryQuerySet
from console.ledger.sentences import actor_name, detail, factor_name


class ActivityForm(forms.Form):
    """What to show; anything else shows all."""

    kind = forms.ChoiceField(choices=[("", _("All events")), *Kind.choices], required=False)
    key = forms.UUIDField(required=False)


class Activity(ListView):  # type: ignore[type-arg]
    """The events of the account, newest first."""

    template_name = "console/activity.html"
    paginate_by = 50

    def get_queryset(self) -> EntryQuerySet:
        self.form = ActivityForm(self.request.GET)
        self.form.is_valid()
        entries = Entry.objects.filter(account=user_of(self.request))
        if kind := self.form.cleaned_data.get("kind"):
            entries = entries.of_kind(Kind(kind))
        if key_id := self.form.cleaned_data.get("key"):
            entries = entries.filter(key_id=key_id)
        return entries

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context = super().get_context_data(**kwargs)
        context["events"] = [
            {
                "entry": entry,
                "label": Kind.of(entry.kind).label,
                "actor": actor_name(entry),
                "factor": factor_name(entry.factor),
                "detail": detail(entry),
            }
            for entry in context["object_list"]
        ]
        used = Entry.objects.filter(account=user_of(self.request)).exclude(key_id=None)
        keys = used.order_by("key").values_list("key_id", "key").distinct()
        query = self.request.GET.copy()
        query.pop("page", None)
        return context | {"form": self.form, "kinds": Kind.choices, "keys": keys, "query": query.urlencode()}


class ActivityCsv(Activity):
    """The rows as a file, oldest first. Unfiltered, it can be verified (console.ledger.verify)."""

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response = HttpResponse(content_type="text/csv; charset=utf-8")
        response.headers["Content-Disposition"] = 'attachment; filename="activity.csv"'
        chain.write_export(response, self.get_queryset().rows())
        return response
