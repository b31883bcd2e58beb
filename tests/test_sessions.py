"""Sessions: when they end, and who can end them."""

from collections.abc import Iterator

import pytest
import time_machine
from django.contrib.auth.password_validation import password_validators_help_texts
from django.core.management import call_command
from django.db import connection
from django.test import Client
from pytest_django import Settings

from console.factors.models import Authenticator
from console.ledger.kinds import Kind
from console.ledger.models import Entry
from console.models import User
from console.operators import invite, lift_lockout
from console.rate_limits import Tally
from console.sessions.store import Session, digest_of, stored_key
from tests.support import filling, html
from tests.support.person import PASSWORD, code
from tests.support.world import Enrolled, verified_client

pytestmark = pytest.mark.django_db
START = "2026-03-01T09:00:00Z"


def log_on(codes: Iterator[str], **header: str) -> Client:
    browser = Client(**header)  # type: ignore[arg-type]
    browser.post("/login/", {"username": "owner", "password": PASSWORD})
    browser.post("/login/verify/", {"otp_token": next(codes)})
    assert logged_on(browser)
    return browser


def logged_on(browser: Client) -> bool:
    return browser.get("/api-keys/").status_code == 200


class TestTheirEnd:
    def test_after_15_minutes_without_use(self, codes: Iterator[str]) -> None:
        with time_machine.travel(START, tick=False) as clock:
            browser = log_on(codes)
            for _ in range(5):
                clock.shift(14 * 60)
                assert logged_on(browser)
            clock.shift(15 * 60 + 1)
            assert not logged_on(browser)

    def test_8_hours_after_the_log_on_however_busy(self, codes: Iterator[str]) -> None:
        with time_machine.travel(START, tick=False) as clock:
            browser = log_on(codes)
            for _ in range(47):
                clock.shift(10 * 60)
                assert logged_on(browser)
            clock.shift(11 * 60)
            assert not logged_on(browser)
            call_command("housekeep", "--once")
            assert not Session.objects.exists()

    def test_log_out_ends_it_on_the_server_and_clears_the_browser(self, codes: Iterator[str]) -> None:
        browser = log_on(codes)
        stolen = Client()
        stolen.cookies["sessionid"] = browser.cookies["sessionid"].value
        assert logged_on(stolen)
        answer = browser.post("/logout/")
        assert answer.headers["Clear-Site-Data"] == '"cache", "storage"'
        assert not answer.cookies["sessionid"].value and not answer.cookies["csrftoken"].value
        assert not logged_on(stolen) and not Session.objects.exists()

    def test_a_log_out_twice_is_one(self) -> None:
        answer = Client().post("/logout/")
        assert answer.status_code == 302 and not Session.objects.exists()

    def test_each_step_of_the_log_on_has_a_session_key_of_its_own(self, codes: Iterator[str]) -> None:
        browser, seen = Client(), []
        browser.get("/login/")
        browser.post("/login/", {"username": "owner", "password": PASSWORD})
        seen.append(browser.cookies["sessionid"].value)
        browser.post("/login/verify/", {"otp_token": next(codes)})
        seen.append(browser.cookies["sessionid"].value)
        assert len(set(seen)) == 2 and [*Session.objects.values_list("session_key", flat=True)] == [digest_of(seen[1])]


def test_a_copied_database_logs_nobody_on(codes: Iterator[str]) -> None:
    """Whatever of a session's row is sent as its cookie."""
    browser = log_on(codes)
    row = Session.objects.values().get()
    for value in (row["session_key"], row["session_key"][:32], row["session_data"]):
        thief = Client()
        thief.cookies["sessionid"] = value
        assert not logged_on(thief)
    assert logged_on(browser)


def test_no_row_of_any_table_has_what_opens_something(codes: Iterator[str], owner: Enrolled) -> None:
    browser = log_on(codes)
    link = invite(User.objects.create(username="newcomer", password="!"))
    bearers = [browser.cookies["sessionid"].value, link.rstrip("/").rpartition("/")[2], *codes, PASSWORD]
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            for row in cursor.fetchall():
                text = " ".join(str(bytes(cell) if isinstance(cell, memoryview) else cell) for cell in row)
                assert not [bearer for bearer in bearers if bearer in text or bearer.replace("-", "") in text], table


class TestTheirPage:
    def test_it_shows_where_one_is_logged_on(self, codes: Iterator[str]) -> None:
        browser = log_on(codes, HTTP_USER_AGENT="Firefox", REMOTE_ADDR="192.0.2.1")
        log_on(codes, HTTP_USER_AGENT="Chromium", REMOTE_ADDR="2001:db8::1")
        page = browser.get("/security/sessions/").content.decode()
        for shown in ("Firefox", "192.0.2.1", "Chromium", "2001:db8::1", "This session"):
            assert shown in page
        assert browser.cookies["sessionid"].value not in page

    def test_a_chosen_one_ends(self, codes: Iterator[str]) -> None:
        mine, other, third = (log_on(codes) for _ in range(3))
        name = Session.objects.get(session_key=stored_key(other.session)).name
        assert mine.post("/security/sessions/", {"session": name, "otp_token": "000000"}).status_code == 422
        nothing = mine.post("/security/sessions/", {"otp_token": next(codes)})
        assert nothing.status_code == 422 and "Select the sessions to end." in nothing.content.decode()
        assert logged_on(other)
        answer = mine.post("/security/sessions/", {"session": name, "otp_token": next(codes)}, follow=True)
        assert "The selected sessions have ended." in answer.content.decode()
        assert [logged_on(browser) for browser in (mine, other, third)] == [True, False, True]

    def test_pages_of_50_from_which_any_can_end(self, codes: Iterator[str], owner: Enrolled) -> None:
        mine, old = log_on(codes), log_on(codes)
        filling.sessions(owner, 100)
        pages = [mine.get("/security/sessions/", {"page": n}).content for n in (1, 2, 3, 99)]
        shown = [[box["value"] for box in html.select(page, "[name=session]")] for page in pages]
        assert [len(page) for page in shown] == [50, 50, 1, 1]
        assert all("This session" in html.text(page, "#sessions") for page in pages)
        assert [link["href"] for link in html.select(pages[1], ".pages a")] == ["?page=1", "?page=3"]
        name = Session.objects.get(session_key=stored_key(old.session)).name
        assert name in shown[0]
        data = {"session": [name, *shown[2]], "otp_token": next(codes)}
        assert mine.post("/security/sessions/?page=3", data).status_code == 302
        assert not logged_on(old) and owner.sessions.count() == 100

    def test_anothers_cannot_be_chosen(self, codes: Iterator[str], other: Enrolled) -> None:
        mine, theirs = log_on(codes), verified_client(other)
        name = Session.objects.get(user=other).name
        assert mine.post("/security/sessions/", {"session": name, "otp_token": next(codes)}).status_code == 422
        assert logged_on(theirs)


class TestWhatEndsTheOthers:
    def test_a_new_password(self, codes: Iterator[str], owner: Enrolled) -> None:
        mine, other = log_on(codes), log_on(codes)
        new = "a quite different sentence"
        data = {"password": PASSWORD, "new_password": new, "otp_token": next(codes)}
        assert mine.post("/security/password/", data, follow=True).status_code == 200
        assert logged_on(mine) and not logged_on(other)
        assert User.objects.get(pk=owner.pk).check_password(new)

    def test_a_replaced_authenticator(self, codes: Iterator[str]) -> None:
        mine, other = log_on(codes), log_on(codes)
        secret = mine.get("/security/authenticator/").context["secret"]
        data = {"otp_token": code(secret), "current-password": PASSWORD, "current-otp_token": next(codes)}
        answer = mine.post("/security/authenticator/", data)
        assert answer.status_code == 200 and logged_on(mine) and not logged_on(other)
        assert Authenticator.objects.filter(confirmed=True).count() == 1

    def test_a_disabled_user(self, codes: Iterator[str], owner: Enrolled) -> None:
        browser = log_on(codes)
        User.objects.filter(pk=owner.pk).update(is_active=False)
        assert not logged_on(browser)


class TestPasswords:
    """OWASP ASVS 5.0, 6.2."""

    @pytest.mark.parametrize(
        ("new", "why"),
        [
            ("fourteen signs", "at least 15 characters"),
            ("1q2w3e4r5t6y7u8i", "too common"),
            ("Owner-API-key-console-2026", "mostly your user name"),
            ("", "required"),
        ],
    )
    def test_a_weak_one_is_told_why(self, new: str, why: str, codes: Iterator[str], owner: Enrolled) -> None:
        browser = log_on(codes)
        spare = next(codes)
        data = {"password": PASSWORD, "new_password": new, "otp_token": spare}
        answer = browser.post("/security/password/", data)
        assert answer.status_code == 422 and why in answer.content.decode()
        assert User.objects.get(pk=owner.pk).check_password(PASSWORD)
        data = {"password": PASSWORD, "otp_token": spare}
        assert browser.post("/security/recovery-codes/", data).status_code == 200, "it was not spent"

    @pytest.mark.parametrize(
        "new", ["only small letters", "p" * 20 + "q" * 200, "ein Schloß am Meer 城堡", "  spaces are kept  "]
    )
    def test_a_long_one_needs_no_kinds_of_signs(self, new: str, codes: Iterator[str], owner: Enrolled) -> None:
        data = {"password": PASSWORD, "new_password": new, "otp_token": next(codes)}
        assert log_on(codes).post("/security/password/", data).status_code == 302
        assert User.objects.get(pk=owner.pk).check_password(new)

    def test_the_old_one_is_asked_for_and_guessing_it_is_limited(self, codes: Iterator[str], owner: Enrolled) -> None:
        browser = log_on(codes)
        data = {"password": "wrong", "new_password": "a quite different sentence", "otp_token": next(codes)}
        for _ in range(9):
            answer = browser.post("/security/password/", data)
            assert answer.status_code == 422 and "The password is incorrect." in answer.content.decode()
        assert browser.post("/security/password/", data).status_code == 429
        assert User.objects.get(pk=owner.pk).check_password(PASSWORD)

    def test_strangers_at_the_log_on_keep_no_verified_owner_from_changing_it(
        self, codes: Iterator[str], owner: Enrolled, settings: Settings
    ) -> None:
        """From the owner's own IP address, and from many others."""
        settings.GUESSES_PER_ACCOUNT = 20
        browser = log_on(codes)
        for address in ("127.0.0.1", *(f"192.0.2.{n}" for n in range(20))):
            for _ in range(11 if address == "127.0.0.1" else 1):
                Client(REMOTE_ADDR=address).post("/login/", {"username": "owner", "password": "wrong"})
        assert Client().post("/login/", {"username": "owner", "password": PASSWORD}).status_code == 429
        for name in ("owner VERIFIED", "owner verified"):
            for _ in range(11):
                Client().post("/login/", {"username": name, "password": "wrong"})
        data = {"password": PASSWORD, "new_password": "a quite different sentence", "otp_token": next(codes)}
        assert browser.post("/security/password/", data).status_code == 302

    def test_an_operator_lifts_both_locks(self, codes: Iterator[str], owner: Enrolled) -> None:
        browser = log_on(codes)
        data = {"password": "wrong", "new_password": "a quite different sentence", "otp_token": "000000"}
        for _ in range(11):
            answer = browser.post("/security/password/", data)
        assert "Too many incorrect passwords" in answer.content.decode()
        lift_lockout(owner)
        right = data | {"password": PASSWORD, "otp_token": next(codes)}
        assert browser.post("/security/password/", right).status_code == 302

    def test_guessing_it_in_a_session_is_limited_for_that_one_alone(
        self, codes: Iterator[str], settings: Settings
    ) -> None:
        settings.GUESSES_PER_SESSION = 3
        thief, owner = log_on(codes), log_on(codes)
        data = {"password": "wrong", "otp_token": next(codes)}
        answers = [thief.post("/security/recovery-codes/", data, REMOTE_ADDR=f"192.0.2.{n}") for n in range(4)]
        assert [answer.status_code for answer in answers] == [422, 422, 429, 429]
        good = data | {"password": PASSWORD}
        answer = thief.post("/security/recovery-codes/", good, REMOTE_ADDR="192.0.2.9")
        assert answer.status_code == 429 and "Try again in 15 minutes." in answer.content.decode()
        assert owner.post("/security/recovery-codes/", good).status_code == 200
        assert Client().post("/login/", {"username": "owner", "password": PASSWORD}).status_code == 302

    def test_what_was_refused_is_in_ones_own_ledger_and_nowhere_readable(
        self, codes: Iterator[str], owner: Enrolled, other: Enrolled
    ) -> None:
        data = {"username": "other", "password": "wrong", "new_password": "x" * 20, "otp_token": next(codes)}
        browser = log_on(codes)
        for _ in range(11):
            browser.post("/security/password/", data)
        assert not Entry.objects.filter(account=other, kind__in=[Kind.PASSWORD_REFUSED, Kind.LOCKED_OUT]).exists()
        kinds = list(Entry.objects.filter(account=owner).values_list("kind", flat=True))
        assert (kinds.count(Kind.PASSWORD_REFUSED), kinds.count(Kind.LOCKED_OUT)) == (9, 1)
        kept = str([*Tally.objects.values(), *Entry.objects.values()])
        assert Tally.objects.exists() and data["otp_token"] not in kept and "x" * 20 not in kept and "wrong" not in kept

    def test_the_rules_are_told(self) -> None:
        rules = " ".join(password_validators_help_texts())
        assert "at least 15 characters" in rules and "mostly your user name" in rules

    def test_it_can_be_pasted(self, mine: Client) -> None:
        assert "onpaste" not in mine.get("/security/password/").content.decode()
