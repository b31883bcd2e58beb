"""What an attacker does is told to the owner: soon, once, and in no words of the attacker's."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.core import mail
from django.core.management import call_command
from django.test import Client

from console.browsers import browser_and_system
from console.ledger.budget import ROWS
from console.ledger.kinds import Kind
from console.ledger.models import Entry
from console.ledger.notices import NOTICES, UNMAILED
from console.models import User
from tests.support.person import PASSWORD
from tests.support.world import Enrolled, verified_client

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def email(owner: Enrolled) -> None:
    User.objects.filter(pk=owner.pk).update(email="owner@example.org")


def told() -> list[str]:
    """The bodies of what is sent to the owner by now."""
    call_command("housekeep", "--once")
    bodies = [str(sent.body) for sent in mail.outbox]
    mail.outbox.clear()
    return bodies


def password_only(address: str = "192.0.2.66", **options: str) -> Client:
    """A thief's browser, who knows the password."""
    browser = Client(REMOTE_ADDR=address, **options)  # type: ignore[arg-type]
    assert browser.post("/login/", {"username": "owner", "password": PASSWORD}).status_code == 302
    return browser


def test_every_kind_is_emailed_or_reviewed() -> None:
    assert {*NOTICES} | UNMAILED == {*Kind} and not {*NOTICES} & UNMAILED


class TestARightPasswordWithoutACode:
    def test_it_is_told_once_the_log_on_has_ended(self, owner: Enrolled) -> None:
        with time_machine.travel(NOON, tick=False) as clock:
            password_only()
            assert told() == [], "it may still be finished"
            clock.shift(timedelta(minutes=16))
            (body,) = told()
            assert "right password of user owner" in body and "192.0.2.66" in body
            assert told() == []
        entry = Entry.objects.get(kind=Kind.PASSWORD_ACCEPTED)
        assert (entry.account, entry.who, entry.address) == (owner, "owner", "192.0.2.66")

    def test_it_is_told_when_the_thief_logs_out(self) -> None:
        password_only().post("/logout/")
        assert ["right password of user owner" in body for body in told()] == [True]

    def test_the_log_on_cannot_be_kept_half_open(self) -> None:
        with time_machine.travel(NOON, tick=False) as clock:
            browser = password_only()
            for _ in range(4):
                clock.shift(timedelta(minutes=4))
                answer = browser.get("/login/verify/")
            assert answer.status_code == 302 and answer.headers["Location"].startswith("/login/?")
            assert len(told()) == 1

    def test_a_finished_log_on_is_not(self, codes: Iterator[str]) -> None:
        with time_machine.travel(NOON, tick=False) as clock:
            browser = password_only()
            assert browser.post("/login/verify/", {"otp_token": next(codes)}).status_code == 302
            told()
            clock.shift(timedelta(hours=9))
            assert told() == []

    def test_nor_is_an_enrolment_that_was_not_finished(self) -> None:
        User.objects.create_user("new", password=PASSWORD, email="new@example.org")
        with time_machine.travel(NOON, tick=False) as clock:
            Client().post("/login/", {"username": "new", "password": PASSWORD})
            clock.shift(timedelta(hours=1))
            assert told() == []


class TestANewNetwork:
    @pytest.mark.parametrize(
        ("first", "second", "new"),
        [
            ("192.0.2.1", "192.0.2.1", False),
            ("192.0.2.1", "192.0.2.2", True),
            ("2001:db8::1", "2001:db8::ffff:2", False),
            ("2001:db8::1", "2001:db8:0:1::1", True),
        ],
    )
    def test_a_log_on_from_one_is_told(self, codes: Iterator[str], first: str, second: str, new: bool) -> None:
        with time_machine.travel(NOON, tick=False) as clock:
            for address in (first, second):
                told()
                clock.shift(timedelta(hours=1))
                password_only(address).post("/login/verify/", {"otp_token": next(codes)})
            assert ["From a network that the user has not used" in body for body in told()] == [True] * new


class TestFloods:
    def test_a_ram_user_leaves_a_few_rows_and_a_number(self, owner: Enrolled, ram_user: Enrolled) -> None:
        browser = verified_client(ram_user)
        with time_machine.travel(NOON, tick=False) as clock:
            for _ in range(ROWS + 30):
                assert browser.post("/api-keys/create/", {"request_id": uuid.uuid4()}).status_code == 403
            refused = Entry.objects.filter(account=owner, kind=Kind.ACCESS_REFUSED)
            assert refused.count() == ROWS
            clock.shift(timedelta(hours=1))
            told()
            told()
            more = Entry.objects.get(account=owner, kind=Kind.MORE)
            assert (more.actor, more.params) == ("system", {"kind": "access.refused", "more": 30})
        call_command("verify_ledger")
        page = verified_client(owner).get("/activity/", {"kind": "events.omitted"}).content.decode()
        assert "30 more events of this kind within an hour: Access refused." in page

    def test_the_next_one_counts_anew_and_says_what_was_left_out(self, owner: Enrolled, ram_user: Enrolled) -> None:
        browser = verified_client(ram_user)
        with time_machine.travel(NOON, tick=False) as clock:
            for _ in range(ROWS + 1):
                browser.post("/api-keys/create/", {"request_id": uuid.uuid4()})
            clock.shift(timedelta(hours=1))
            verified_client(ram_user).post("/api-keys/create/", {"request_id": uuid.uuid4()})
        kinds = list(Entry.objects.filter(account=owner).values_list("kind", flat=True)[:2])
        assert kinds == [Kind.ACCESS_REFUSED, Kind.MORE]

    def test_recovery_codes_that_are_guessed_do_too(self, owner: Enrolled) -> None:
        browser = password_only()
        for _ in range(ROWS + 5):
            assert browser.post("/login/verify/", {"otp_token": "a" * 24}).status_code == 422
        assert Entry.objects.filter(kind=Kind.CODE_REFUSED).count() == ROWS


class TestWordsOfAStranger:
    EVIL = "Your account is closed. Pay at https://evil.example"

    def test_none_is_in_an_email(self, codes: Iterator[str]) -> None:
        browser = password_only(HTTP_USER_AGENT=self.EVIL)
        browser.post("/login/verify/", {"otp_token": next(codes)})
        browser.post("/api-keys/create/", {"request_id": uuid.uuid4()})
        password_only(HTTP_USER_AGENT=self.EVIL).post("/logout/")
        bodies = told()
        assert len(bodies) == 3
        assert not any("evil" in body or "closed" in body for body in bodies)

    @pytest.mark.parametrize(
        ("user_agent", "named"),
        [
            (
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
                ("Chrome", "Linux"),
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
                "Version/18.0 Mobile/15E148 Safari/604.1",
                ("Safari", "iOS"),
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 "
                "Safari/537.36 Edg/140.0.0.0",
                ("Edge", "Windows"),
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:143.0) Gecko/20100101 Firefox/143.0",
                ("Firefox", "macOS"),
            ),
            ("curl/8.5.0", ("curl", "")),
            ("", ("", "")),
        ],
    )
    def test_browsers_are_named_from_a_list(self, user_agent: str, named: tuple[str, str]) -> None:
        assert browser_and_system(user_agent) == named
