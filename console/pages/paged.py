"""Pagination and search of lists."""

from typing import Any

from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest

PER_PAGE = 50
MAX_SEARCH = 100  # characters


def page_of(request: HttpRequest, rows: QuerySet[Any, Any]) -> dict[str, Any]:
    """The context of templates/pages.html: the page of `rows` that `?page=` asks for; past the end, the last one,
    as rows may have been deleted since the link was shown."""
    return {"page_obj": Paginator(rows, PER_PAGE).get_page(request.GET.get("page"))}


def search_text(request: HttpRequest) -> str:
    """The text of `?q=`, without control characters."""
    return "".join(filter(str.isprintable, request.GET.get("q", ""))).strip()[:MAX_SEARCH]
