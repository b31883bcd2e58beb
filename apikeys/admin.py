"""The operators' list of keys, in which leaked ones can be deleted."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet, Sum
from django.dispatch import receiver
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from apikeys.keys.models import ApiKey, KeyDeleted, ago
from apikeys.usage.models import Usage
from console.accounts import User
from console.operators import stopping
from console.operators_admin import OperatorsAdmin


@admin.register(ApiKey)
class ApiKeyAdmin(OperatorsAdmin):
    list_display = fields = ("hint", "account", "created_at", "deleted_at", "account_disabled")
    search_fields = ("hint", "account__username")
    actions = ("delete_leaked",)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[ApiKey], search_term: str
    ) -> tuple[QuerySet[ApiKey], bool]:
        """A whole hint has an index; anything else is searched for in all hints and user names."""
        text = search_term.replace("...", "…")
        whole = queryset.filter(hint=text)
        if "…" in text and whole.exists():
            return whole, False
        return super().get_search_results(request, queryset, text)

    def owners(self, chosen: Sequence[ApiKey]) -> list[User]:
        return [key.account for key in chosen]

    def effects(self, action: str, chosen: Sequence[ApiKey]) -> list[str]:
        return what_stops(ApiKey.objects.filter(pk__in=[key.pk for key in chosen]))

    @admin.action(description=_("Delete as leaked (denies calls at once and notifies the owner)"))
    def delete_leaked(self, request: HttpRequest, chosen: list[ApiKey]) -> None:
        deleted = 0
        for key in chosen:
            try:
                key.revoke("leaked")
                deleted += 1
            except KeyDeleted:
                continue
        message = ngettext("%(count)s API key deleted.", "%(count)s API keys deleted.", deleted)
        self.message_user(request, message % {"count": deleted})


@receiver(stopping)
def keys_that_stop(sender: object, accounts: Sequence[User], **kwargs: Any) -> list[str]:
    return what_stops(ApiKey.objects.filter(account__in=accounts))


def what_stops(keys: QuerySet[ApiKey]) -> list[str]:
    """If those are denied: the calls are those of the last 24 hours, with all of the hour in which they begin."""
    denied = keys.active()  # type: ignore[attr-defined]
    active = denied.count()
    calls = Usage.objects.filter(key__in=denied, hour__gt=ago(hours=25)).aggregate(sum=Sum("accepted"))["sum"] or 0
    return [
        ngettext("%(count)s API key is denied.", "%(count)s API keys are denied.", active) % {"count": active},
        ngettext(
            "They were used for %(count)s call in the last 24 hours.",
            "They were used for %(count)s calls in the last 24 hours.",
            calls,
        )
        % {"count": calls},
    ]
