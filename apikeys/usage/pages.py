"""The usage page and its CSV."""

import csv
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.views.generic import TemplateView

from apikeys.keys.pages import OwnKeys
from apikeys.usage.models import Usage
from apikeys.usage.sums import PERIODS, by_key, chart, period
from console.ledger.chain import BYTE_ORDER_MARK, csv_safe


class UsageForm(forms.Form):
    """Which days, and which key; anything else shows today, for all keys."""

    days = forms.TypedChoiceField(choices=[(days, name) for days, name in PERIODS.items()], coerce=int)
    key = forms.UUIDField(required=False)


class UsagePage(OwnKeys, TemplateView):
    template_name = "apikeys/usage.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        form = UsageForm(self.request.GET)
        form.is_valid()
        days, key_id = form.cleaned_data.get("days") or 1, form.cleaned_data.get("key")
        key = get_object_or_404(self.keys(), pk=key_id) if key_id else None
        chosen = self.keys().filter(pk=key.pk) if key else self.keys()
        return super().get_context_data(
            days=days,
            periods=PERIODS.items(),
            period=PERIODS[days],
            key=key,
            chart=chart(chosen, days),
            rows=by_key(self.keys(), days),
            time_zone=timezone.get_default_timezone_name(),
            **kwargs,
        )


class UsageCsv(OwnKeys):
    """One row per key and hour."""

    http_method_names = ["get", "head", "options"]

    def get(self, request: HttpRequest) -> HttpResponse:
        form = UsageForm(request.GET)
        form.is_valid()
        days = form.cleaned_data.get("days") or 1
        start = period(days, timezone.now())[0]
        response = HttpResponse(BYTE_ORDER_MARK, content_type="text/csv; charset=utf-8")
        response.headers["Content-Disposition"] = f'attachment; filename="usage-{days}-days.csv"'
        out = csv.writer(response)
        out.writerow(["hour_utc", "api_key_id", "api_key", "accepted", "refused", "deleted_at_utc"])
        rows = Usage.objects.filter(key__in=self.keys(), hour__gte=start).select_related("key")
        for row in rows.order_by("hour", "key__created_at"):
            deleted = f"{row.key.deleted_at:%Y-%m-%dT%H:%M:%SZ}" if row.key.deleted_at else ""
            values = [f"{row.hour:%Y-%m-%dT%H:00Z}", row.key_id, row.key, row.accepted, row.refused, deleted]
            out.writerow([csv_safe(value) for value in values])
        return response
