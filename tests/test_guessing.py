"""Strangers who guess at passwords: by many names, from many addresses, with a stolen cookie; and owners meanwhile."""

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection
from django.test import Client, RequestFactory
from pytest_django import Settings

from console.ledger.kinds import Kind
from console.ledger.models import Entry
from console.models import User
from console.security import submitted_name
from tests.support.person import PASSWORD
from tests.support.world import Enrolled, verified_client

pytestmark = pytest.mark.django_db
HOME, ABROAD = "2001:db8:0:1::1", "2001:db8:ffff::1"


def guess(address: str, name: str = "owner", password: str = "wrong", browser: Client | None = None) -> int:
    answer = (browser or Client()).post("/login/", {"username": name, "password": password}, REMOTE_ADDR=address)
    return int(answer.status_code)


def log_on(codes: Iterator[str], address: str = HOME) -> Client:
    """The owner, in both steps."""
    browser = Client(REMOTE_ADDR=address)
    assert guess(address, password=PASSWORD, browser=browser) == 302
    assert browser.post("/login/verify/", {"otp_token": next(codes)}).status_code == 302
    return browser


def test_a_name_that_takes_long_to_normalize_is_cut_first(rf: RequestFactory) -> None:
    """128 KiB of accents in the wrong order held a process for seconds, before any limit was asked."""
    name = "a" + "\u0301" * 16_000 + "\u0316" * 16_000
    assert len(submitted_name(rf.post("/login/", {"username": name}))) <= 151
    assert User.objects.named(name) is None
    assert guess(ABROAD, name) == 422


def with_cookies_of(browser: Client, *names: str) -> Client:
    other = Client()
    for name in names or browser.cookies:
        other.cookies[name] = browser.cookies[name].value
    return other


class Writes:
    """Statements that change something."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, execute: Any, sql: str, *details: Any) -> Any:
        self.count += sql.startswith(("INSERT", "UPDATE", "DELETE"))
        return execute(sql, *details)


def one_address() -> str:
    return "192.0.2.1"


def privacy_addresses() -> str:
    return f"2001:db8:0:1:{random.getrandbits(16):x}:{random.getrandbits(16):x}:0:1"


def networks_of_one_site() -> str:
    return f"2001:db8:0:{random.getrandbits(16):x}::1"


class TestManyNames:
    @pytest.mark.parametrize(
        ("address", "most"), [(one_address, 20), (privacy_addresses, 20), (networks_of_one_site, 60)]
    )
    def test_of_one_network_so_many_guesses_are_looked_at(
        self, owner: Enrolled, address: Callable[[], str], most: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        statuses = [guess(address(), f"name {n}") for n in range(most + 15)]
        assert statuses == [422] * (most - 1) + [429] * 16
        assert guess(address(), password=PASSWORD) == 429
        assert guess(ABROAD, password=PASSWORD) == 302
        assert f"are refused after {most} incorrect passwords" in caplog.text

    def test_what_is_refused_writes_nothing(self, owner: Enrolled) -> None:
        for n in range(20):
            guess("192.0.2.1", f"name {n}")
        writes = Writes()
        with connection.execute_wrapper(writes):
            assert {guess("192.0.2.1", name) for name in ("owner", "another", "x" * 5000)} == {429}
        assert writes.count == 0

    def test_whoever_knows_a_password_gains_no_more_guesses(self, owner: Enrolled, other: Enrolled) -> None:
        for n in range(19):
            assert guess("192.0.2.1", f"name {n}") == 422
            assert guess("192.0.2.1", "other", PASSWORD) == 302
        assert [guess("192.0.2.1", "owner") for _ in range(2)] == [429, 429]


class TestManyAddresses:
    @pytest.fixture(autouse=True)
    def few(self, settings: Settings) -> None:
        settings.GUESSES_PER_ACCOUNT = 3

    def guess_from_everywhere(self) -> None:
        statuses = [guess(f"198.51.100.{n}") for n in range(5)]
        assert statuses == [422, 422, 429, 429, 429]
        assert Entry.objects.get(kind=Kind.LOCKED_OUT).params == {"reason": "unfamiliar"}

    def test_the_owners_network_stays_open_whatever_address_of_it_is_used(
        self, owner: Enrolled, codes: Iterator[str]
    ) -> None:
        log_on(codes)
        self.guess_from_everywhere()
        assert guess("2001:db8:0:1:8a2e:370:7334:1", password=PASSWORD) == 302
        assert guess("2001:db8:0:2::1", password=PASSWORD) == 429

    def test_of_a_name_that_nobody_has_no_network_is_known(self, owner: Enrolled) -> None:
        assert [guess(f"198.51.100.{n}", "nobody") for n in range(5)] == [422, 422, 429, 429, 429]


class TestKnownBrowsers:
    @pytest.fixture
    def known(self, owner: Enrolled, codes: Iterator[str]) -> Client:
        """The owner's browser, logged out."""
        browser = log_on(codes)
        browser.post("/logout/")
        return browser

    @pytest.fixture
    def locked(self, known: Client, settings: Settings) -> None:
        """Strangers have locked out the name, and everybody abroad."""
        settings.GUESSES_PER_ACCOUNT = 12
        for n in range(12):
            guess(f"198.51.100.{n}")
        for n in range(20):
            guess(ABROAD, f"name {n}")
        assert guess(ABROAD, password=PASSWORD) == 429

    def test_strangers_lock_none_out(self, known: Client, locked: None) -> None:
        assert guess(ABROAD, password=PASSWORD, browser=known) == 302

    def test_each_log_on_makes_it_known_anew(self, known: Client, codes: Iterator[str]) -> None:
        before = known.cookies["device"]
        assert before["httponly"] and before["samesite"] == "Strict" and before["max-age"] == 90 * 24 * 60 * 60
        assert guess(HOME, password=PASSWORD, browser=known) == 302
        known.post("/login/verify/", {"otp_token": next(codes)})
        assert known.cookies["device"].value.split(":")[0] == before.value.split(":")[0]

    def test_none_is_made_known_by_a_password_alone(self, owner: Enrolled) -> None:
        browser = Client()
        assert guess(HOME, password=PASSWORD, browser=browser) == 302
        assert "device" not in browser.cookies

    def test_it_is_known_for_its_own_user_alone(self, known: Client, locked: None, other: Enrolled) -> None:
        assert guess(ABROAD, "other", PASSWORD, known) == 429
        assert guess(ABROAD, "nobody", PASSWORD, known) == 429

    def test_a_forged_one_is_not_known(self, known: Client, locked: None) -> None:
        value = known.cookies["device"].value
        for forged in ("", "x", f"{value}x", f"x{value}", value.replace(":", ";"), "\0", "é"):
            known.cookies["device"] = forged
            assert guess(ABROAD, password=PASSWORD, browser=known) == 429

    def test_a_stolen_one_has_few_guesses_and_locks_nobody_out(self, known: Client, locked: None) -> None:
        thief = with_cookies_of(known, "device")
        assert [guess(ABROAD, browser=thief) for _ in range(10)] == [422] * 9 + [429]
        assert guess(ABROAD, password=PASSWORD, browser=thief) == 429
        assert Entry.objects.filter(kind=Kind.LOCKED_OUT)[0].params == {"reason": "device"}
        assert guess(HOME, password=PASSWORD) == 302
        assert guess(HOME, password=PASSWORD, browser=known) == 302, "as an unknown browser"

    def test_a_new_password_makes_all_others_unknown(
        self, owner: Enrolled, known: Client, locked: None, codes: Iterator[str]
    ) -> None:
        new = "a quite different sentence"
        mine = verified_client(owner)
        data = {"password": PASSWORD, "new_password": new, "otp_token": next(codes)}
        assert mine.post("/security/password/", data).status_code == 302
        assert guess(ABROAD, password=new, browser=known) == 429
        mine.post("/logout/")
        assert guess(ABROAD, password=new, browser=mine) == 302


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_no_more_are_counted_than_one_after_the_other() -> None:
    from console.rate_limits import Exhausted, RateLimit, take

    limits = [RateLimit("one", 10, caller="x"), RateLimit("other", 20, caller="x")]

    def one(n: int) -> bool:
        try:
            take(limits[:: 1 if n % 2 else -1])
            return True
        except Exhausted:
            return False
        finally:
            connection.close()

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(one, range(32))).count(True) == 10


def test_nobody_is_kept_waiting(owner: Enrolled, monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(seconds: float) -> None:
        raise AssertionError("a thread sleeps, which others may need")

    monkeypatch.setattr(time, "sleep", sleep)
    assert [guess(HOME, name) for name in ("owner", "nobody")] == [422, 422]
    answer = Client().post("/leaked-keys", '{"keys": ["sk-x"]}', content_type="application/json")
    assert answer.status_code == 202


def test_where_nobody_has_an_account_yet_a_password_is_wrong(db: None) -> None:
    assert not User.objects.exists() and guess(HOME) == 422
