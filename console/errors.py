"""Error pages."""

import sys

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils.translation import gettext as _

from console.unavailable import database_unavailable, is_database_unavailable


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    message = _("This form has expired. Go back, reload the page, and submit it again. Nothing was changed.")
    return render(request, "403.html", {"heading": _("Form expired"), "exception": message}, status=403)


def plain_page(request: HttpRequest, status: int) -> HttpResponse:
    """A page without the user's name, which would need the database."""
    page = render_to_string(f"{status}.html", {"nonce": str(request.csp_nonce)})  # type: ignore[attr-defined]
    return HttpResponse(page, status=status)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return plain_page(request, 400)


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler500, called while the exception is handled."""
    if is_database_unavailable(sys.exception()):
        return database_unavailable(request)
    return plain_page(request, 500)
