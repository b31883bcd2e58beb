import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from django.db import connection
from django.test import Client

from apikeys.models import ApiKey
from console import health
from console.factors.models import RecoveryCodes
from console.models import User
from tests.support.gates import Gate
from tests.support.servers import Server, running
from tests.support.tampering import drop_triggers
from tests.support.world import Enrolled, World, enrolled, verified_client

if TYPE_CHECKING:
    from playwright.sync_api import Browser


LONGEST = ("attacks", "test_start", "test_gate_http", "test_machine")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files begin, so that all workers end together. Those with a browser come last: once Playwright runs
    its event loop in a process, Django asks no database there. What only PostgreSQL does is skipped elsewhere."""
    browsers = {item.path for item in items if item.get_closest_marker("browser")}
    items.sort(key=lambda item: not item.nodeid.removeprefix("tests/").startswith(LONGEST))
    items.sort(key=lambda item: item.path in browsers)
    if connection.vendor != "postgresql":
        for item in items:
            if item.get_closest_marker("postgres"):
                item.add_marker(pytest.mark.skip("only on PostgreSQL: set DATABASE_URL, or use `make test`"))


@pytest.fixture(scope="session")
def django_db_modify_db_settings() -> None:
    """A database for each process that runs tests: many do at once."""
    names = connection.settings_dict["TEST"]
    names["NAME"] = f"{names['NAME'] or 'test_console'}_{os.getpid()}"


@pytest.fixture(autouse=True)
def nothing_known_of_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """What /readyz found in the test before is not what it finds in this one."""
    monkeypatch.setattr(health, "readiness", health.Readiness())


@pytest.fixture(scope="session", autouse=True)
def django_db_flush() -> Iterator[None]:
    """Emptying the tables between tests takes the ledger's triggers away first; `post_migrate`, which follows, brings
    them back."""
    flush = connection.ops.execute_sql_flush

    def flushed(*words: Any) -> None:
        drop_triggers()
        flush(*words)

    with mock.patch.object(connection.ops, "execute_sql_flush", flushed):
        yield


@pytest.fixture
def owner(db: None) -> Enrolled:
    return enrolled("owner")


@pytest.fixture
def other(db: None) -> Enrolled:
    """Another root account."""
    return enrolled("other")


@pytest.fixture
def ram_user(owner: User) -> Enrolled:
    return enrolled("ram-user", account=owner)


@pytest.fixture
def mine(owner: User) -> Client:
    """The owner's verified browser."""
    return verified_client(owner)


@pytest.fixture
def codes(owner: Enrolled) -> Iterator[str]:
    """Recovery codes of the owner: each good for one security authentication."""
    return iter(owner.spare_codes)


@pytest.fixture
def world(owner: Enrolled, codes: Iterator[str]) -> World:
    key = ApiKey.objects.issue(owner, uuid.uuid4())[0]
    next(codes)
    RecoveryCodes.objects.filter(user=owner).update(digests=RecoveryCodes.objects.get(user=owner).digests[1:])
    return World(owner, verified_client(owner), verified_client(owner), key, next(codes))


@pytest.fixture
def made(owner: Enrolled) -> tuple[ApiKey, str]:
    """A key of the owner's, and its secret."""
    return ApiKey.objects.issue(owner, uuid.uuid4())


@pytest.fixture
def recovery(owner: User) -> RecoveryCodes:
    found: RecoveryCodes = RecoveryCodes.objects.get(user=owner)
    return found


@pytest.fixture
def gate(tmp_path: Path, transactional_db: None) -> Iterator[Gate]:
    """The gate, at its port, trusting what is before it there."""
    with Gate(tmp_path, TRUSTED_PROXIES="127.0.0.1") as started:
        yield started


@pytest.fixture(scope="session")
def chromium() -> "Iterator[Browser]":
    """One for all tests: Playwright can run once in a process."""
    from playwright.sync_api import sync_playwright  # slow to load, and few tests need it

    words = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=words)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The product, running, with a root account that nobody has logged on to."""
    folder: Path = tmp_path_factory.mktemp("data")
    with running(folder) as started:
        yield started


@pytest.fixture
def fresh_server(tmp_path: Path) -> Iterator[Server]:
    """The same for one test alone."""
    with running(tmp_path / "data") as started:
        yield started
