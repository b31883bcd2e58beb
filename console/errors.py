"""What belongs to no page in particular: the site's root, and the pages of errors."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.views.generic import RedirectView


class Home(RedirectView):
    pattern_name = "apikeys:list"
    http_method_names = ["get", "head", "options"]


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    message = "This form is out of date. Go back, reload the page and send it again; nothing was changed."
    return render(request, "403.html", {"heading": "Form out of date", "exception": message}, status=403)


def plain_page(request: HttpRequest, status: int) -> HttpResponse:
    """A page without the user, whom the database may not be there to name."""
    page = render_to_string(f"{status}.html", {"nonce": str(request.csp_nonce)})  # type: ignore[attr-defined]
    return HttpResponse(page, status=status)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return plain_page(request, 400)


def server_error(request: HttpRequest) -> HttpResponse:
    return plain_page(request, 500)
