"""What an attacker does is told to the owner: soon, once, and in no words of the attacker's."""

import json
import logging
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.core import mail
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client, override_settings
from django.utils import timezone

from apikeys.models import ApiKey
from console.browsers import browser_and_system
from console.factors.models import Authenticator
from console.ledger.budget import BOUNDED, ROWS, Budget
from console.ledger.kinds import Kind
from console.ledger.models import Entry
from console.ledger.notices import NOTICES, UNMAILED
from console.logs import JsonFormatter
from console.models import User
from console.outbox import Email
from console.security import report_unfinished_log_on
from console.sessions.store import Session
from tests.support.person import PASSWORD
from tests.support.tampering import drop_triggers
from tests.support.world import Enrolled, enrolled, verified_client

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

    def test_it_is_told_once_where_two_notice(self) -> None:
        password_only()
        session = Session.objects.get()
        for _ in range(2):
            report_unfinished_log_on(session)
        assert Entry.objects.filter(kind=Kind.PASSWORD_ACCEPTED).count() == 1

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

    def test_so_is_one_with_another_browser(self, codes: Iterator[str]) -> None:
        with time_machine.travel(NOON, tick=False) as clock:
            for browser in ("Firefox/143.0", "Firefox/144.0", "curl/8.5.0"):
                told()
                clock.shift(timedelta(hours=1))
                thief = password_only(HTTP_USER_AGENT=browser)
                thief.post("/login/verify/", {"otp_token": next(codes)})
            assert ["With a browser that the user has not used" in body for body in told()] == [True]
        kinds = Entry.objects.filter(who="owner", address="192.0.2.66").order_by("number")
        assert [*kinds.values_list("kind", "params__reason")] == [
            (Kind.LOGGED_ON_UNFAMILIAR, "network"),
            (Kind.LOGGED_ON, None),
            (Kind.LOGGED_ON_UNFAMILIAR, "browser"),
        ]


class TestAStolenSession:
    def test_a_key_that_the_thief_creates_is_told(self, mine: Client) -> None:
        assert mine.post("/api-keys/create/", {"request_id": uuid.uuid4()}).status_code == 200
        assert ["was created" in body for body in told()] == [True]

    def test_codes_that_the_thief_guesses_are_told(self, owner: Enrolled, mine: Client) -> None:
        key = ApiKey.objects.issue(owner, uuid.uuid4())[0]
        told()
        with time_machine.travel(NOON, tick=False) as clock:
            for guesses in range(1, 8):
                assert mine.post(f"/api-keys/{key.pk}/view/", {"otp_token": "000000"}).status_code == 422
                clock.shift(timedelta(seconds=2**guesses))
                bodies = told()
                assert ["5 wrong security codes in a row" in body for body in bodies] == [True] * (guesses == 5)


class TestManyAlerts:
    def test_of_one_kind_they_come_together(self, owner: Enrolled) -> None:
        with time_machine.travel(NOON, tick=False) as clock:
            for count in range(30):
                password_only(f"192.0.2.{count}").post("/logout/")
            assert [body.count("right password of user owner") for body in told()] == [1]
            clock.shift(timedelta(minutes=9))
            password_only("192.0.2.200").post("/logout/")
            assert told() == []
            clock.shift(timedelta(minutes=1))
            (body,) = told()
            assert body.count("right password of user owner") == ROWS - 1
            assert "192.0.2.1\n" in body and "192.0.2.19\n" in body
            clock.shift(timedelta(minutes=10))
            assert told() == [] and not Email.objects.exists()

    def test_of_two_kinds_they_do_not(self, mine: Client, codes: Iterator[str]) -> None:
        mine.post("/api-keys/create/", {"request_id": uuid.uuid4()})
        password_only().post("/logout/")
        assert len(told()) == 2

    def test_one_that_is_about_to_be_sent_takes_nothing_more(self) -> None:
        """What is added while the sender takes it is sent."""
        Email.queue("owner@example.org", "Subject", "first", later=timedelta(minutes=1))
        Email.objects.update(due_at=timezone.now())

        def meanwhile(execute: Any, sql: str, *words: Any) -> Any:
            if sql.startswith('UPDATE "console_email"'):
                waiting.pop()()
            return execute(sql, *words)

        waiting: list[Any] = [lambda: None, lambda: Email.objects.update(body="first, and second")]
        waiting.insert(0, lambda: Email.queue("owner@example.org", "Subject", "third", later=timedelta(minutes=1)))
        with connection.execute_wrapper(meanwhile):
            assert told() == ["first, and second"]


class TestTheHeadOfTheLedger:
    def test_every_email_about_an_account_has_it(self, owner: Enrolled, mine: Client, codes: Iterator[str]) -> None:
        mine.post("/api-keys/create/", {"request_id": uuid.uuid4()})
        data = {"email": "new@example.org", "password": PASSWORD, "otp_token": next(codes)}
        mine.post("/security/email/", data)
        bodies = told()
        assert len(bodies) == 3
        heads = [re.findall(r"^Ledger: row ([0-9]+), hash ([0-9a-f]{64})$", body, re.MULTILINE) for body in bodies]
        rows = {str(number): bytes(found).hex() for number, found in owner.ledger.values_list("number", "hash")}
        assert all(len(found) == 1 and rows[found[0][0]] == found[0][1] for found in heads)

    def test_so_has_the_log(
        self, owner: Enrolled, mine: Client, caplog: Any, django_capture_on_commit_callbacks: Any
    ) -> None:
        with django_capture_on_commit_callbacks(execute=True), caplog.at_level(logging.INFO):
            mine.post("/api-keys/create/", {"request_id": uuid.uuid4()})
        last = owner.ledger.latest("number")
        found = [JsonFormatter().format(line) for line in caplog.records if line.name == "console.ledger.record"]
        assert [{**json.loads(line), "at": "", "request_id": ""} for line in found] == [
            {
                "at": "",
                "level": "INFO",
                "logger": "console.ledger.record",
                "message": "recorded",
                "request_id": "",
                "account": owner.pk,
                "kind": "key.created",
                "number": last.number,
                "hash": bytes(last.hash).hex(),
            }
        ]

    def test_rows_that_are_cut_off_are_missed_by_it(self, owner: Enrolled, mine: Client) -> None:
        for _ in range(3):
            mine.post("/api-keys/create/", {"request_id": uuid.uuid4()})
        (_, head), *_ = re.findall(r"Ledger: row ([0-9]+), hash ([0-9a-f]{64})", told()[0])
        drop_triggers()
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM console_entry WHERE number > 1")
        call_command("verify_ledger", "--account=owner")
        with pytest.raises(CommandError, match=f"no row has the hash {head}"):
            call_command("verify_ledger", "--account=owner", f"--head={head}")


def wrong_passwords(owner: Enrolled, count: int) -> None:
    for n in range(count):
        Client(REMOTE_ADDR=f"192.0.2.{n}").post("/login/", {"username": "owner", "password": "wrong"})


def lockouts(owner: Enrolled, count: int) -> None:
    with override_settings(GUESSES_PER_NAME_AND_NETWORK=1, GUESSES_PER_ACCOUNT=10_000):
        wrong_passwords(owner, count)


def right_passwords(owner: Enrolled, count: int) -> None:
    for _ in range(count):
        password_only().post("/logout/")


def wrong_codes(owner: Enrolled, count: int) -> None:
    browser = password_only()
    for _ in range(count):
        assert browser.post("/login/verify/", {"otp_token": "a" * 24}).status_code == 422


def codes_of_a_damaged_factor(owner: Enrolled, count: int) -> None:
    Authenticator.objects.filter(user=owner).update(sealed_secret=b"nonsense")
    browser = password_only()
    for _ in range(count):
        assert browser.post("/login/verify/", {"otp_token": "123456"}).status_code == 422


def refused_keys(owner: Enrolled, count: int) -> None:
    User.objects.filter(pk=owner.pk).update(max_active_keys=0)
    browser = verified_client(owner)
    for _ in range(count):
        assert browser.post("/api-keys/create/", {"request_id": uuid.uuid4()}).status_code == 409


def ram_user_at_the_keys(owner: Enrolled, count: int) -> None:
    browser = verified_client(enrolled("ram-user", account=owner))
    for _ in range(count):
        assert browser.post("/api-keys/create/", {"request_id": uuid.uuid4()}).status_code == 403


FLOODS = {
    Kind.PASSWORD_REFUSED: wrong_passwords,
    Kind.LOCKED_OUT: lockouts,
    Kind.PASSWORD_ACCEPTED: right_passwords,
    Kind.CODE_REFUSED: wrong_codes,
    Kind.FACTOR_DAMAGED: codes_of_a_damaged_factor,
    Kind.CREATION_REFUSED: refused_keys,
    Kind.ACCESS_REFUSED: ram_user_at_the_keys,
}


class TestFloods:
    @pytest.mark.parametrize("kind", FLOODS)
    def test_they_leave_a_few_rows_and_a_number(self, kind: Kind, owner: Enrolled) -> None:
        assert {*FLOODS} == BOUNDED
        with time_machine.travel(NOON, tick=False) as clock:
            FLOODS[kind](owner, ROWS + 30)
            assert Entry.objects.filter(account=owner, kind=kind).count() == ROWS
            clock.shift(timedelta(hours=1))
            for _ in range(2):
                call_command("housekeep", "--once")
            more = Entry.objects.get(account=owner, kind=Kind.MORE)
            assert (more.actor, more.params) == ("system", {"kind": kind, "more": 30})
        call_command("verify_ledger", "--account=owner")

    def test_one_of_a_ram_user_hides_nothing_that_is_about_the_owner(self, owner: Enrolled, ram_user: Enrolled) -> None:
        for user in [ram_user] * (ROWS + 1) + [owner]:
            browser = Client()
            browser.post("/login/", {"username": user.username, "password": PASSWORD})
            browser.post("/logout/")
        rows = Entry.objects.filter(kind=Kind.PASSWORD_ACCEPTED)
        assert [rows.filter(who=user.username).count() for user in (ram_user, owner)] == [ROWS, 1]

    def test_the_owner_reads_how_many_more(self, owner: Enrolled, ram_user: Enrolled) -> None:
        browser = verified_client(ram_user)
        with time_machine.travel(NOON, tick=False) as clock:
            for _ in range(ROWS + 30):
                assert browser.post("/api-keys/create/", {"request_id": uuid.uuid4()}).status_code == 403
            clock.shift(timedelta(hours=1))
            told()
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

    def test_a_clock_that_was_ahead_holds_no_budget_closed(self, owner: Enrolled) -> None:
        with time_machine.travel(NOON + timedelta(days=30), tick=False):
            ram_user_at_the_keys(owner, ROWS + 1)
        Budget.objects.update(since=NOON + timedelta(days=30))
        call_command("housekeep", "--once")
        assert Entry.objects.filter(kind=Kind.MORE).count() == 1 and Budget.objects.get().since <= timezone.now()


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
