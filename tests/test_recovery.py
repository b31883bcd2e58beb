"""How a user whose factors or password are lost gets back in, and nobody else does."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
import time_machine
from django.core import mail
from django.core.management import CommandError, call_command
from django.test import Client

from console.factors.models import Authenticator, RecoveryCodes
from console.ledger.kinds import Kind
from console.ledger.models import Entry
from console.logs import LINK
from console.models import Recovery, User
from console.operators import invite
from console.recovery import Lost
from tests.support import html
from tests.support.person import PASSWORD, code
from tests.support.world import Enrolled, Operator, verified_client
from tests.test_secrets import database_dump

Clock = Any  # of time_machine
pytestmark = pytest.mark.django_db
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
NEW_PASSWORD = "a quite different sentence"
DAY = timedelta(hours=24)


@pytest.fixture
def operator() -> Operator:
    return Operator()


@pytest.fixture
def clock() -> Iterator[Clock]:
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


@pytest.fixture
def email(owner: Enrolled) -> str:
    User.objects.filter(pk=owner.pk).update(email="owner@example.org")
    owner.email = "owner@example.org"
    return owner.email


def link(user: User, lost: Lost) -> str:
    return urlsplit(Recovery.begin(user, lost)[0]).path


def sent() -> list[Any]:
    call_command("housekeep", "--once")
    found, mail.outbox = mail.outbox, []
    return found


def cancel_link() -> str:
    """In the last email."""
    (found,) = re.findall(r"http\S+/recovery/cancel/\S+", sent()[-1].body)
    return str(urlsplit(found).path)


def continue_with(path: str, password: str = PASSWORD) -> tuple[Client, Any]:
    """Open the link and enter the password: the browser, and the page that follows."""
    browser = Client()
    browser.post(path)
    return browser, browser.post(
        "/login/", {"username": "owner", "password": password, "next": "/security/authenticator/"}, follow=True
    )


def enroll(browser: Client, page: Any) -> Any:
    return browser.post("/security/authenticator/", {"otp_token": code(html.text(page.content, "#totp-secret"))})


def logs_on(password: str, otp: str) -> bool:
    browser = Client()
    browser.post("/login/", {"username": "owner", "password": password})
    browser.post("/login/verify/", {"otp_token": otp})
    return browser.get("/api-keys/").status_code == 200


class TestALostAuthenticator:
    def test_the_link_and_the_password_replace_it(self, operator: Operator, owner: Enrolled, mine: Client) -> None:
        path = urlsplit(html.text(operator.act("reset_factors", owner).content, ".invitation")).path
        assert "set up a new authenticator app" in Client().get(path).content.decode()
        assert mine.get("/security/").status_code == 200, "until then, nothing changes"
        browser, page = continue_with(path)
        answer = enroll(browser, page)
        assert len(html.texts(answer.content, "#recovery-codes li code")) == 10
        assert browser.get("/api-keys/").status_code == 200 and mine.get("/security/").status_code == 302
        assert not logs_on(PASSWORD, owner.spare_codes[0])
        assert Client().get(path).status_code == Client().post(path).status_code == 410
        kinds = Entry.objects.filter(account=owner).order_by("number").values_list("kind", "who")
        assert [*kinds][2:] == [
            (Kind.RECOVERY_CREATED, "operator"),
            (Kind.FACTOR_REMOVED, "owner"),
            (Kind.FACTOR_ADDED, "owner"),
            (Kind.RECOVERY_CODES_CREATED, "owner"),
            (Kind.LOGGED_ON_UNFAMILIAR, "owner"),
            (Kind.CODE_REFUSED, "owner"),
        ]

    def test_who_has_the_password_alone_enrolls_nothing(self, operator: Operator, owner: Enrolled) -> None:
        operator.act("reset_factors", owner)
        thief = Client()
        thief.post("/login/", {"username": "owner", "password": PASSWORD})
        answer = thief.get("/security/authenticator/")
        assert answer.status_code == 302 and answer.headers["Location"].startswith("/login/verify/")
        assert thief.post("/security/authenticator/", {"otp_token": "123456"}).status_code == 302

    def test_nor_does_who_has_the_link_alone(self, owner: Enrolled) -> None:
        browser, page = continue_with(link(owner, Lost.FACTORS), "a password that is wrong")
        assert "is incorrect" in page.content.decode()
        assert browser.get("/security/authenticator/").headers["Location"].startswith("/login/?")

    def test_nor_somebody_else_with_their_own_password(self, owner: Enrolled, other: Enrolled) -> None:
        browser = Client()
        browser.post(link(owner, Lost.FACTORS))
        browser.post("/login/", {"username": "other", "password": PASSWORD})
        assert browser.get("/security/authenticator/").headers["Location"].startswith("/login/verify/")

    def test_opening_it_ends_the_session_of_whoever_used_the_browser(self, owner: Enrolled, other: Enrolled) -> None:
        browser = verified_client(other)
        answer = browser.post(link(owner, Lost.FACTORS), follow=True)
        assert html.select(answer.content, "[name=username]") and not other.sessions.exists()

    def test_one_link_enrolls_once(self, owner: Enrolled) -> None:
        path = link(owner, Lost.FACTORS)
        first, second = continue_with(path), continue_with(path)
        assert enroll(*first).status_code == 200
        assert enroll(*second).headers["Location"].startswith("/login/?"), "that session has ended too"

    def test_also_where_both_are_sent_at_once(self, owner: Enrolled, monkeypatch: pytest.MonkeyPatch) -> None:
        browser, page = continue_with(link(owner, Lost.FACTORS))
        monkeypatch.setattr(Recovery, "spend", lambda self: False)  # the other one has it already
        before = Authenticator.objects.get(user=owner, confirmed=True)
        assert enroll(browser, page).status_code == 302
        assert Authenticator.objects.get(user=owner, confirmed=True) == before


def test_it_ends_no_half_finished_log_on_silently(owner: Enrolled, ram_user: Enrolled) -> None:
    """A thief's, who has a link of their own."""
    browser, path = Client(), link(ram_user, Lost.FACTORS)
    browser.post("/login/", {"username": "owner", "password": PASSWORD})
    browser.post(path)
    assert Entry.objects.filter(kind=Kind.PASSWORD_ACCEPTED, who="owner").count() == 1


class TestAForgottenPassword:
    def test_the_link_and_a_code_set_a_new_one(
        self, operator: Operator, owner: Enrolled, mine: Client, codes: Iterator[str]
    ) -> None:
        factor = Authenticator.objects.get(user=owner)
        path = urlsplit(html.text(operator.act("reset_password", owner).content, ".invitation")).path
        browser = Client()
        assert html.select(browser.get(path).content, "[name=otp_token]")
        answer = browser.post(path, {"new_password": NEW_PASSWORD, "otp_token": next(codes)})
        assert answer.headers["Location"] == "/login/" and not owner.sessions.exists()
        assert mine.get("/security/").status_code == 302
        assert Authenticator.objects.get(user=owner) == factor, "the factor is kept"
        assert logs_on(NEW_PASSWORD, next(codes)) and not logs_on(PASSWORD, next(codes))
        assert browser.get(path).status_code == 410
        entry = Entry.objects.get(kind=Kind.PASSWORD_CHANGED)
        assert (entry.who, entry.factor, entry.params["reason"]) == ("owner", "recovery-code", "recovery")

    def test_no_code_no_password(self, owner: Enrolled) -> None:
        path = link(owner, Lost.PASSWORD)
        for given, status in (({}, 422), ({"otp_token": "000000"}, 422), ({"otp_token": "000000"}, 429)):
            answer = Client().post(path, {"new_password": NEW_PASSWORD, **given})
            assert answer.status_code == status and html.select(answer.content, ".errorlist")
        assert User.objects.get(pk=owner.pk).check_password(PASSWORD)
        refused = Entry.objects.get(kind=Kind.CODE_REFUSED)
        assert (refused.account, refused.who) == (owner, "owner")

    def test_a_weak_one_costs_no_code(self, owner: Enrolled, codes: Iterator[str]) -> None:
        path, given = link(owner, Lost.PASSWORD), next(codes)
        assert Client().post(path, {"new_password": "short", "otp_token": given}).status_code == 422
        assert Client().post(path, {"new_password": NEW_PASSWORD, "otp_token": given}).status_code == 302

    def test_a_link_that_ended_meanwhile_sets_none(
        self, owner: Enrolled, codes: Iterator[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = link(owner, Lost.PASSWORD)
        monkeypatch.setattr(Recovery, "spend", lambda self: False)
        answer = Client().post(path, {"new_password": NEW_PASSWORD, "otp_token": next(codes)})
        assert answer.status_code == 410 and User.objects.get(pk=owner.pk).check_password(PASSWORD)


class TestTheDelay:
    @pytest.mark.parametrize("lost", [Lost.FACTORS, Lost.PASSWORD])
    def test_an_owner_with_an_email_has_a_day_to_cancel(
        self, owner: Enrolled, email: str, clock: Clock, lost: Lost
    ) -> None:
        path = link(owner, lost)
        for after, status in ((timedelta(0), 403), (DAY - timedelta(seconds=1), 403), (DAY, 200)):
            clock.move_to(NOON + after)
            assert Client().get(path).status_code == status
        for after, status in ((2 * DAY - timedelta(seconds=1), 200), (2 * DAY, 410)):
            clock.move_to(NOON + after)
            assert Client().get(path).status_code == status

    def test_until_then_nothing_can_be_posted(
        self, owner: Enrolled, email: str, codes: Iterator[str], clock: Clock
    ) -> None:
        answer = Client().post(link(owner, Lost.PASSWORD), {"new_password": NEW_PASSWORD, "otp_token": next(codes)})
        assert answer.status_code == 403 and "from 2026-06-02 12:00 UTC" in answer.content.decode()
        browser, page = continue_with(link(owner, Lost.FACTORS))
        assert not html.select(page.content, "#totp-secret") and browser.session.get("recovery") is None
        assert User.objects.get(pk=owner.pk).check_password(PASSWORD)

    def test_a_session_that_began_in_time_does_not_outlast_the_link(self, owner: Enrolled, clock: Clock) -> None:
        path = link(owner, Lost.FACTORS)
        clock.shift(DAY - timedelta(minutes=1))
        browser, page = continue_with(path)
        clock.shift(timedelta(minutes=2))
        assert enroll(browser, page).headers["Location"].startswith("/login/verify/")

    def test_a_ram_users_waits_for_the_owner_of_the_account(
        self, owner: Enrolled, ram_user: Enrolled, email: str, clock: Clock
    ) -> None:
        path = link(ram_user, Lost.FACTORS)
        assert Client().get(path).status_code == 403
        assert "user ram-user" in sent()[-1].body

    def test_without_an_email_nobody_could_and_nobody_waits(self, owner: Enrolled) -> None:
        assert Client().get(link(owner, Lost.FACTORS)).status_code == 200
        assert sent() == []

    def test_the_operator_is_told(self, operator: Operator, owner: Enrolled, email: str) -> None:
        page = operator.act("reset_factors", owner)
        day = f"{datetime.now(UTC) + DAY:%Y-%m-%d}"
        assert f"Works from {day}" in html.text(page.content, ".usable")


class TestCancelling:
    @pytest.mark.parametrize("lost", Lost)
    def test_the_owner_does_by_the_email(self, owner: Enrolled, email: str, lost: Lost) -> None:
        path = link(owner, lost)
        cancelling, browser = cancel_link(), Client()
        page = browser.get(cancelling)
        assert page.status_code == 200 and "Cancel the recovery link of owner?" in page.content.decode()
        assert Recovery.objects.exists(), "looking changes nothing"
        assert "has been cancelled" in browser.post(cancelling).content.decode()
        for gone in (path, cancelling):
            assert Client().get(gone).status_code == Client().post(gone).status_code == 410
        entry = Entry.objects.get(kind=Kind.RECOVERY_CANCELLED)
        assert (entry.who, entry.params) == ("owner", {"user": "owner", "reason": "email"})
        assert "no longer works" in sent()[-1].body

    def test_so_does_a_log_on_which_shows_that_nothing_is_lost(
        self, owner: Enrolled, email: str, codes: Iterator[str]
    ) -> None:
        path = link(owner, Lost.FACTORS)
        assert logs_on(PASSWORD, next(codes))
        assert Client().get(path).status_code == 410
        assert Entry.objects.get(kind=Kind.RECOVERY_CANCELLED).params["reason"] == "logged_on"

    def test_a_password_alone_does_not(self, owner: Enrolled) -> None:
        path = link(owner, Lost.FACTORS)
        Client().post("/login/", {"username": "owner", "password": PASSWORD})
        assert Client().get(path).status_code == 200

    def test_of_two_at_once_one_is_recorded(self, owner: Enrolled) -> None:
        link(owner, Lost.FACTORS)
        seen = Recovery.objects.get()
        for _ in range(2):
            seen.cancel("email")
        assert Entry.objects.filter(kind=Kind.RECOVERY_CANCELLED).count() == 1

    @pytest.mark.parametrize("before", Lost)
    @pytest.mark.parametrize("after", Lost)
    def test_another_link_ends_the_one_before(self, owner: Enrolled, email: str, before: Lost, after: Lost) -> None:
        first, cancelling = link(owner, before), cancel_link()
        second = link(owner, after)
        assert Client().get(first).status_code == Client().get(cancelling).status_code == 410
        assert Client().get(second).status_code == (200 if after is Lost.BOTH else 403)

    def test_of_an_invitation_and_a_link_the_later_one_is_good(self, db: None) -> None:
        user = User.objects.create(username="invited", password="!")
        make = {
            "invitation": lambda: urlsplit(invite(user)).path,
            "recovery": lambda: link(user, Lost.BOTH),
        }
        for first, second in (("invitation", "recovery"), ("recovery", "invitation")):
            before, after = make[first](), make[second]()
            assert Client().get(before).status_code == 410
            assert Client().post(before, {"new_password": NEW_PASSWORD}).status_code == 410
            assert Client().get(after).status_code == 200
            assert not User.objects.get(pk=user.pk).has_usable_password()


class TestWhatOperatorsCannot:
    @pytest.mark.parametrize("action", ["reset_factors", "reset_password"])
    def test_make_a_link_for_who_could_not_prove_anything(
        self, operator: Operator, owner: Enrolled, action: str
    ) -> None:
        Authenticator.objects.filter(user=owner).delete()
        User.objects.create(username="invited", password="!")
        answer = operator.act(action, *User.objects.filter(username__in=("invited", "owner")))
        assert "manage.py breakglass" in html.text(answer.content, ".messagelist")
        assert not Recovery.objects.exists()

    def test_find_a_link_in_the_database_or_a_log(self, owner: Enrolled, email: str) -> None:
        token = link(owner, Lost.FACTORS).split("/")[-2]
        sent()
        assert token.encode() not in database_dump()
        for path in (f"/recovery/{token}/", f"/recovery/cancel/{token}/"):
            assert token not in LINK.sub(r"\1...", f'{{"path": "{path}"}}')

    def test_let_a_disabled_user_in(self, owner: Enrolled) -> None:
        path = link(owner, Lost.PASSWORD)
        User.objects.filter(pk=owner.pk).update(is_active=False)
        assert Client().get(path).status_code == 410


class TestTheCommandLine:
    def test_breaking_the_glass(
        self, owner: Enrolled, email: str, mine: Client, capsys: pytest.CaptureFixture[str]
    ) -> None:
        call_command("breakglass", "OWNER")
        path = urlsplit(re.findall(r"http\S+", capsys.readouterr().out)[0]).path
        created = Entry.objects.get(kind=Kind.BREAK_GLASS)
        assert (created.account, created.actor) == (owner, "command")
        assert "at the command line" in sent()[-1].body
        page = Client().get(path)
        assert page.status_code == 200 and not html.select(page.content, "[name=otp_token]")
        assert Client().post(path, {"new_password": "short"}).status_code == 422
        assert Client().post(path, {"new_password": NEW_PASSWORD}).headers["Location"] == "/login/"
        assert Client().post(path, {"new_password": PASSWORD}).status_code == 410
        assert not Authenticator.objects.filter(user=owner).exists() and not RecoveryCodes.objects.exists()
        assert mine.get("/security/").status_code == 302
        after = Client().post("/login/", {"username": "owner", "password": NEW_PASSWORD}, follow=True)
        assert html.select(after.content, "#totp-secret")
        assert Entry.objects.get(kind=Kind.FACTOR_REMOVED).params["reason"] == "break_glass"

    def test_a_printed_password_that_was_replaced_needs_no_other(self, capsys: pytest.CaptureFixture[str]) -> None:
        call_command("createroot", "new")
        call_command("breakglass", "new")
        path = urlsplit(re.findall(r"http\S+", capsys.readouterr().out)[-1]).path
        assert Client().post(path, {"new_password": NEW_PASSWORD}).status_code == 302
        assert not User.objects.get(username="new").must_change_password

    def test_of_nobody_and_of_a_disabled_user(self, owner: Enrolled) -> None:
        with pytest.raises(CommandError, match="There is no user named nobody"):
            call_command("breakglass", "nobody")
        User.objects.filter(pk=owner.pk).update(is_active=False)
        with pytest.raises(CommandError, match="owner is disabled"):
            call_command("breakglass", "owner")
        assert not Recovery.objects.exists()

    @pytest.mark.parametrize(
        ("words", "instead"),
        [
            (["createsuperuser", "--noinput", "--username=x", "--email="], "createroot NAME --operator"),
            (["changepassword", "owner"], "breakglass NAME"),
        ],
    )
    def test_djangos_own_commands_go_around_nothing(self, owner: Enrolled, words: list[str], instead: str) -> None:
        with pytest.raises(CommandError, match=instead):
            call_command(*words)
        assert User.objects.count() == 1 and User.objects.get().check_password(PASSWORD)
