"""Keys as operators see them: whose they are, and a way to delete a leaked one."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from apikeys.models import ApiKey, KeyDeleted
from console.admin import OperatorsAdmin
from console.ledger.models import Kind


@admin.register(ApiKey)
class ApiKeyAdmin(OperatorsAdmin):
    list_display = fields = ("hint", "account", "created_at", "deleted_at", "account_disabled")
    search_fields = ("hint", "account__username")
    actions = ("delete_leaked",)

    @admin.action(description="Delete as leaked: refused at once, the owner is told")
    def delete_leaked(self, request: HttpRequest, chosen: QuerySet[ApiKey]) -> None:
        deleted = 0
        for key in chosen:
            try:
                key.delete(kind=Kind.KEY_LEAKED, detail="by an operator")
                deleted += 1
            except KeyDeleted:
                continue
        self.message_user(request, f"{deleted} deleted.")
