"""No page asks the database more often because there is more to show."""

import uuid
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apikeys.models import ApiKey
from console.factors.models import Authenticator, RecoveryCodes
from tests.support import filling
from tests.support.addresses import addresses
from tests.support.world import Enrolled, enrolled, verified_client

pytestmark = [pytest.mark.django_db, pytest.mark.no_mutants]
KEY = uuid.UUID(int=7)
MOST, MOST_OF_OPERATORS = 8, 10  # to read
SEARCHES = [
    "/api-keys/?q=sk&page=2",
    "/api-keys/{key}/view/?q=sk&page=2",
    "/api-keys/{key}/delete/?q=sk&page=2&confirmed=1",
    "/api-keys/usage/?days=90&page=2",
    "/api-keys/usage/?days=90&key={key}",
    "/api-keys/usage/csv/?days=90&key={key}",
    "/activity/?kind=key.viewed&page=2",
    "/activity/?key={key}",
    "/activity/?q=sk&page=2",
    "/activity/csv/?q=sk",
    "/security/sessions/?page=2",
]
OPERATORS = [
    "/admin/",
    "/admin/console/user/",
    "/admin/console/email/",
    "/admin/console/user/?q=own&p=2",
    "/admin/console/user/add/",
    "/admin/autocomplete/?app_label=console&model_name=user&field_name=account&term=own",
    "/admin/console/user/{owner}/change/",
    "/admin/console/operatorrequest/",
    "/admin/console/installationentry/",
    "/admin/apikeys/apikey/",
    "/admin/apikeys/apikey/?q=own&p=2",
    "/admin/apikeys/apikey/?q={hint}",
    "/admin/apikeys/apikey/{key}/change/",
]


def statements(browser: Client, path: str, **data: Any) -> list[str]:
    """What it takes to answer, a download to its end."""
    with CaptureQueriesContext(connection) as captured:
        response: Any = browser.post(path, data) if data else browser.get(path)
        b"".join(response)
    return [query["sql"].split(maxsplit=1)[0] for query in captured]


def fill(owner: Enrolled, rows: int) -> None:
    filling.usage(filling.keys(owner, rows), 2)
    filling.usage(filling.keys(owner, rows, deleted=True), 2)
    filling.ledger(owner, rows, [*owner.api_keys.all()])
    filling.sessions(owner, rows)
    filling.users(rows, account=owner)
    for account in filling.users(rows):
        filling.keys(account, 1)


def check(owner: Enrolled, browser: Client, paths: list[str], most: int) -> None:
    fill(owner, len(filling.KINDS))
    key = ApiKey.objects.of(owner).active()[0]
    paths = [path.format(key=key.pk, hint=key.hint, owner=owner.pk) for path in paths]
    for _first_fills_caches in range(2):
        few = {path: statements(browser, path) for path in paths}
    fill(owner, 1000)
    many = {path: statements(browser, path) for path in paths}
    grown = {path: len(many[path]) - len(few[path]) for path in paths}
    assert {path: more for path, more in grown.items() if more > ("/csv/" in path)} == {}  # thousands of rows in each
    reads = {path: found.count("SELECT") for path, found in many.items() if "/csv/" not in path}
    assert {path: count for path, count in reads.items() if count > most} == {}


def test_the_pages_take_as_many_queries_for_1000_rows_as_for_one(owner: Enrolled, mine: Client) -> None:
    pages = [path.replace(str(KEY), "{key}") for path in addresses(KEY) if path not in ("/logout/", "/readyz")]
    check(owner, mine, pages + SEARCHES, MOST)


def test_so_do_the_dialogs_that_a_code_opens(owner: Enrolled, mine: Client) -> None:
    def counts() -> list[int]:
        key = filling.keys(owner, 2)[0]
        view, delete = f"/api-keys/{key.pk}/view/", f"/api-keys/{key.pk}/delete/"
        found = []
        for path, code in ((view, "000000"), (delete, "000000"), (delete, RecoveryCodes.issue(owner)[0])):
            Authenticator.objects.update(throttling_failure_count=0)  # or the second wrong code is not looked at
            found.append(statements(mine, path, otp_token=code))
        return [*map(len, found), len(statements(mine, "/api-keys/"))]

    for _first_opens_a_budget in range(2):
        few = counts()
    fill(owner, 1000)
    assert counts() == few


def test_so_do_the_operators_lists(owner: Enrolled) -> None:
    operator = verified_client(enrolled("operator", is_staff=True))
    check(owner, operator, OPERATORS, MOST_OF_OPERATORS)
