"""Lists in pages, whatever their length."""

from typing import Any

from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest

PER_PAGE = 50
MAX_SEARCH = 100  # characters


def page_of(request: HttpRequest, rows: QuerySet[Any, Any]) -> dict[str, Any]:
    """What templates/pages.html shows: the page of `rows` that `?page=` asks for. A page past the end is the last
    one: rows may have been deleted since its link was shown."""
    return {"page_obj": Paginator(rows, PER_PAGE).get_page(request.GET.get("page"))}


def search_text(request: HttpRequest) -> str:
    """What `?q=` asks for, on one line."""
    return "".join(filter(str.isprintable, request.GET.get("q", ""))).strip()[:MAX_SEARCH]
