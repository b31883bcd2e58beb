"""503: the page of a request that the console cannot serve at the moment, and what became of what was submitted."""

from collections.abc import Callable
from typing import Any

from django import db
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.translation import gettext as _

RETRY_SECONDS = 5
OURS = (db.DataError, db.IntegrityError, db.NotSupportedError, db.ProgrammingError)  # to mend in the code
READING = ("SELECT", "BEGIN", "SAVEPOINT", "RELEASE", "ROLLBACK")


class WritesMiddleware:
    """Sets `request.wrote` once the request has sent the database a statement that may change something."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        def watch(execute: Callable[..., Any], sql: str, *details: Any) -> Any:
            if not sql.startswith(READING):
                request.wrote = True  # type: ignore[attr-defined]
            return execute(sql, *details)

        with db.connection.execute_wrapper(watch):
            return self.get_response(request)


def is_database_unavailable(error: BaseException | None) -> bool:
    """Whether the database could not be asked or written: it is gone, silent, locked, full, read-only or damaged."""
    return isinstance(error, (db.DatabaseError, db.InterfaceError)) and not isinstance(error, OURS)


def database_unavailable(request: HttpRequest) -> HttpResponse:
    if hasattr(request, "session"):
        request.session.modified = False  # it could not be stored either, and would be waited for once more
    outcome = _("Nothing was changed. Try again in a few seconds.")
    if request.method not in ("GET", "HEAD") and getattr(request, "wrote", False):
        outcome = _(
            "What you submitted may or may not have been done. Check before you submit it again, and use a new code "
            "where one is asked for."
        )
    return unavailable(request, _("The console cannot use its database at the moment."), outcome)


def unavailable(request: HttpRequest, reason: str, outcome: str) -> HttpResponse:
    """Without the user's name, which would take a database."""
    nonce = str(request.csp_nonce)  # type: ignore[attr-defined]
    page = render_to_string("503.html", {"nonce": nonce, "reason": reason, "outcome": outcome})
    return HttpResponse(page, status=503, headers={"Retry-After": str(RETRY_SECONDS)})
