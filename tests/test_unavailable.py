"""The page of a request that met a database that could not be used."""

import contextlib
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from django import db
from django.db import connection
from django.test import Client

from apikeys.models import ApiKey
from console.models import User
from tests.support import html
from tests.support.addresses import addresses
from tests.support.person import Person, fields
from tests.support.servers import Server
from tests.support.world import World, verified_client

NOTHING, UNCERTAIN = "Nothing was changed.", "may or may not have been completed"
WITHOUT_DATABASE = {"/", "/healthz", "/csp-reports"}


@contextlib.contextmanager
def failing(part: str = "", error: Exception | None = None) -> Iterator[None]:
    """Every statement that has this part in it fails."""

    def fail(execute: Callable[..., Any], sql: str, *details: Any) -> Any:
        if part in sql:
            raise error or db.OperationalError("the database is gone")
        return execute(sql, *details)

    with connection.execute_wrapper(fail):
        yield


def browser_of(user: User) -> Client:
    client = verified_client(user)
    client.raise_request_exception = False
    return client


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("method", ["get", "post"])
def test_no_page_is_an_internal_error_while_the_database_is_gone(world: World, method: str) -> None:
    browser = browser_of(world.owner)
    for address in [*addresses(world.key.id), "/admin/", "/admin/console/user/"]:
        with failing():
            response = getattr(browser, method)(address)
        if address in WITHOUT_DATABASE or response.status_code == 405:
            continue
        assert response.status_code == 503, address
        if address != "/readyz":
            assert int(response.headers["Retry-After"]) > 0
            assert NOTHING in html.text(response.content.decode(), "main"), address
    assert browser.get("/api-keys/").status_code == 200, "still logged on"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("part", "outcome"),
    [
        ("console_session", NOTHING),  # a middleware's
        ("console_user", NOTHING),
        ('FROM "apikeys_apikey"', NOTHING),  # the view's
        ("console_entry", UNCERTAIN),  # the key is written, and its transaction rolled back
    ],
)
def test_it_says_what_became_of_what_was_submitted(world: World, part: str, outcome: str) -> None:
    browser = browser_of(world.owner)
    with failing(part):
        response = browser.post("/api-keys/create/", {"request_id": uuid.uuid4()})
    assert response.status_code == 503
    assert outcome in html.text(response.content.decode(), "main")
    assert list(ApiKey.objects.of(world.owner)) == [world.key]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (db.OperationalError("database is locked"), 503),
        (db.InterfaceError("connection already closed"), 503),
        (db.InternalError("cannot execute UPDATE in a read-only transaction"), 503),
        (db.DatabaseError("database disk image is malformed"), 503),
        (db.ProgrammingError("syntax error"), 500),
        (db.IntegrityError("constraint failed"), 500),
        (db.DataError("value too long"), 500),
    ],
)
def test_a_fault_of_ours_is_none_of_the_database(world: World, error: Exception, status: int) -> None:
    with failing("apikeys_apikey", error):
        assert browser_of(world.owner).get("/api-keys/").status_code == status


@contextlib.contextmanager
def locked(server: Server) -> Iterator[None]:
    """Somebody else writes to the server's database, and does not come to an end."""
    address = server.environment.get("DATABASE_URL")
    if address:
        with psycopg.connect(address) as other:
            other.execute("LOCK TABLE console_user IN EXCLUSIVE MODE")
            yield
    else:
        with contextlib.closing(sqlite3.connect(server.folder / "console.sqlite3")) as other_file:
            other_file.execute("BEGIN IMMEDIATE")
            yield


@pytest.mark.no_mutants
def test_a_lock_is_not_waited_for_long_and_what_was_submitted_can_be_submitted_again(server: Server) -> None:
    with Person(server.address) as owner:
        form = fields(owner.log_on().http.get("/api-keys/").text)
        with locked(server):
            refused = owner.http.post("/api-keys/create/", data=form, timeout=10)
            assert refused.status_code == 503
            assert NOTHING in html.text(refused.text, "main")
            assert owner.key_ids() == []
        assert owner.http.post("/api-keys/create/", data=form).status_code == 200
        assert len(owner.key_ids()) == 1
    assert "Traceback" not in server.output.read_text() + server.errors.read_text()
