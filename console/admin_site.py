"""The operators' site, which console.admin registers with: behind the console's own log-on, with its own scripts."""

from collections.abc import Callable
from typing import Any

from csp.constants import SELF
from csp.decorators import csp_replace
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext_lazy as _

# The admin's own scripts carry no nonce and create markup from strings.
ADMIN_CSP = {
    "script-src": [SELF],
    "style-src": [SELF],
    "connect-src": [SELF],  # the search for an account while typing
    "require-trusted-types-for": None,
    "trusted-types": None,
}


class ConsoleAdminSite(admin.AdminSite):
    site_header = site_title = _("API Key Console: operators")
    site_url = "/api-keys/"

    def admin_view(self, view: Callable[..., Any], cacheable: bool = False) -> Any:
        return csp_replace(ADMIN_CSP)(super().admin_view(view, cacheable))

    def password_change(self, request: HttpRequest, extra_context: Any = None) -> Any:
        return redirect("console:password")

    def logout(self, request: HttpRequest, extra_context: Any = None) -> Any:
        from console.pages.logon import LogOut  # this module is loaded before there are models

        return LogOut.as_view()(request)

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The only log-on is the console's. A user who is sent to this one has passed it, and is not an operator."""
        raise PermissionDenied(_("Only operators can open this site. Contact your operator."))
