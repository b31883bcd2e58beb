"""The usage page and its CSV."""

from collections.abc import Iterator
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.views.generic import TemplateView

from apikeys.keys.models import ApiKey, ApiKeyQuerySet
from apikeys.keys.pages import OwnKeys
from apikeys.usage.sums import PERIODS, by_key, called_or_active, chart, hours
from console.ledger.chain import csv_lines, csv_safe
from console.pages.downloads import csv_download
from console.pages.paged import page_of


class UsageForm(forms.Form):
    """The period and the key; where invalid, today and all keys."""

    days = forms.TypedChoiceField(choices=[(days, name) for days, name in PERIODS.items()], coerce=int)
    key = forms.UUIDField(required=False)


class OwnUsage(OwnKeys):
    """The period and the keys that the request asks for."""

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        form = UsageForm(request.GET)
        form.is_valid()
        self.days, self.key_id = form.cleaned_data.get("days") or 1, form.cleaned_data.get("key")

    def key(self) -> ApiKey | None:
        return get_object_or_404(self.keys(), pk=self.key_id) if self.key_id else None

    def chosen(self) -> ApiKeyQuerySet:
        return self.keys().filter(pk=self.key_id) if self.key_id else self.keys()


class UsagePage(OwnUsage, TemplateView):
    template_name = "apikeys/usage.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        key = self.key()
        page = page_of(self.request, self.chosen() if key else called_or_active(self.keys(), self.days))
        return super().get_context_data(
            **page,
            days=self.days,
            periods=PERIODS.items(),
            period=PERIODS[self.days],
            key=key,
            chart=chart(self.chosen(), self.days),
            rows=by_key(page["page_obj"], self.days),
            time_zone=timezone.get_default_timezone_name(),
            **kwargs,
        )


class UsageCsv(OwnUsage):
    """One row per key and hour."""

    http_method_names = ["get", "head", "options"]

    def get(self, request: HttpRequest) -> HttpResponseBase:
        self.key()
        return csv_download(request, f"usage-{self.days}-days", csv_lines(self.rows()))

    def rows(self) -> Iterator[list[str]]:
        yield ["hour_utc", "api_key_id", "api_key", "accepted", "refused", "deleted_at_utc"]
        for key, hour, accepted, refused in hours(self.chosen(), self.days):
            deleted = f"{key.deleted_at:%Y-%m-%dT%H:%M:%SZ}" if key.deleted_at else ""
            values = [f"{hour:%Y-%m-%dT%H:00Z}", key.pk, key, accepted, refused, deleted]
            yield [csv_safe(value) for value in values]
