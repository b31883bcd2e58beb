"""The operators' site: behind the console's own log-on, and with no way to a secret."""

from collections.abc import Callable
from typing import Any

from csp.constants import SELF
from csp.decorators import csp_replace
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import HttpRequest, HttpResponse

from console.models import User

# The admin's own scripts carry no nonce and create markup from strings.
ADMIN_CSP = {
    "script-src": [SELF],
    "style-src": [SELF],
    "require-trusted-types-for": None,
    "trusted-types": None,
}


class ConsoleAdminSite(admin.AdminSite):
    site_header = site_title = "API Key Console: operators"
    site_url = "/api-keys/"

    def admin_view(self, view: Callable[..., Any], cacheable: bool = False) -> Any:
        return csp_replace(ADMIN_CSP)(super().admin_view(view, cacheable))

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """There is one log-on, the console's; whoever comes here has passed it and is no operator."""
        raise PermissionDenied("This site is for operators. Your user is not one; ask an operator.")


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Shows, and changes nothing."""

    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(User)
class UserAdmin(ReadOnlyAdmin):
    list_display = ("username", "account", "is_staff", "is_active", "last_login")
    fields = ("username", "email", "account", "is_staff", "is_active", "date_joined", "last_login")
    search_fields = ("username",)
