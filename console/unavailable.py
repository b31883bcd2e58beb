"""503: the page of a request that the console cannot serve at the moment, and what became of what was submitted."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock, Semaphore
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


class Busy(Exception):
    """Too many requests are doing this at the moment."""


class Bottleneck:
    """For what costs much: so many threads of a process do it at once, and so many more wait for that, of one caller no
    more than `each`. All other threads stay free for what else is asked for."""

    def __init__(self, at_once: int, waiting: int, each: int, seconds: float) -> None:
        self.most, self.each, self.seconds = at_once + waiting, each, seconds
        self.at_once, self.lock = Semaphore(at_once), Lock()
        self.present: Counter[str | None] = Counter()  # of each caller

    @contextmanager
    def passed(self, caller: str | None) -> Iterator[None]:
        """Raises Busy at once where too many are there, or after some seconds of waiting."""
        with self.lock:
            if self.present[caller] >= self.each or self.present.total() >= self.most:
                raise Busy
            self.present[caller] += 1
        try:
            if not self.at_once.acquire(timeout=self.seconds):
                raise Busy
            try:
                yield
            finally:
                self.at_once.release()
        finally:
            with self.lock:
                self.present -= Counter([caller])  # which forgets who has gone


def is_database_unavailable(error: BaseException | None) -> bool:
    """Whether the database could not be asked or written: it is gone, silent, locked, full, read-only or damaged."""
    return isinstance(error, (db.DatabaseError, db.InterfaceError)) and not isinstance(error, OURS)


def database_unavailable(request: HttpRequest) -> HttpResponse:
    if hasattr(request, "session"):
        request.session.modified = False  # it could not be stored either, and would be waited for once more
    outcome = nothing_changed()
    if request.method not in ("GET", "HEAD") and getattr(request, "wrote", False):
        outcome = _(
            "Your request may or may not have been completed. Check before you submit it again, and use a new code "
            "where one is asked for."
        )
    return unavailable(request, _("The console cannot use its database at the moment."), outcome)


def nothing_changed() -> str:
    return _("Nothing was changed. Try again in a few seconds.")


def unavailable(request: HttpRequest, reason: str, outcome: str) -> HttpResponse:
    """Without the user's name, which would take a database."""
    nonce = str(request.csp_nonce)  # type: ignore[attr-defined]
    page = render_to_string("503.html", {"nonce": nonce, "reason": reason, "outcome": outcome})
    return HttpResponse(page, status=503, headers={"Retry-After": str(RETRY_SECONDS)})
