"""The operators' list of keys, in which leaked ones can be deleted."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from apikeys.keys.models import ApiKey, KeyDeleted
from console.admin import OperatorsAdmin


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

    @admin.action(description=_("Delete as leaked (denies calls at once and notifies the owner)"))
    def delete_leaked(self, request: HttpRequest, chosen: QuerySet[ApiKey]) -> None:
        deleted = 0
        for key in chosen:
            try:
                key.revoke("leaked")
                deleted += 1
            except KeyDeleted:
                continue
        message = ngettext("%(count)s API key deleted.", "%(count)s API keys deleted.", deleted)
        self.message_user(request, message % {"count": deleted})
