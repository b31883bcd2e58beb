"""Log-on in two steps."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.db import DatabaseError, connection
from django.test import Client

from apikeys.keys import format as keyformat
from console.factors.models import Authenticator
from console.ledger.kinds import Kind
from console.ledger.models import Entry
from console.models import User
from console.rate_limits import Tally
from tests.support import html
from tests.support.person import PASSWORD, code
from tests.support.world import Enrolled, verified_client

pytestmark = pytest.mark.django_db


def with_password(user: User, **data: str) -> Client:
    browser = Client()
    response = browser.post("/login/", {"username": user.username, "password": PASSWORD} | data)
    assert response.status_code == 302
    return browser


def authenticator(user: User) -> Authenticator:
    found: Authenticator = Authenticator.objects.get(user=user, confirmed=True)
    return found


def test_a_wrong_password_says_so(owner: Enrolled) -> None:
    response = Client().post("/login/", {"username": "owner", "password": "wrong"})
    assert response.status_code == 422
    assert b"The user name or password is incorrect" in response.content


def test_a_disabled_user_gets_the_same_answer_as_a_wrong_password(owner: Enrolled) -> None:
    User.objects.update(is_active=False)
    response = Client().post("/login/", {"username": "owner", "password": PASSWORD})
    assert response.status_code == 422
    assert b"The user name or password is incorrect" in response.content


def test_guessing_is_locked_for_user_name_and_address_together(owner: Enrolled) -> None:
    guesser = Client(REMOTE_ADDR="192.0.2.1")
    answers = [guesser.post("/login/", {"username": "owner", "password": "wrong"}).status_code for _ in range(10)]
    assert answers == [422] * 9 + [429]
    response = guesser.post("/login/", {"username": "owner", "password": PASSWORD})
    assert response.status_code == 429
    assert b"Try again in 15 minutes" in response.content
    with_password(owner)  # from elsewhere


@pytest.mark.parametrize("address", ["/", "/api-keys/", "/security/", "/security/authenticator/", "/admin/"])
def test_no_page_opens_before_the_second_step(owner: Enrolled, address: str) -> None:
    response = with_password(owner).get(address, follow=True)
    assert response.redirect_chain[-1][0].startswith("/login/verify/")


def test_the_session_key_changes_at_both_steps(owner: Enrolled) -> None:
    browser = Client()
    browser.get("/login/")
    keys = [browser.session.session_key]
    browser.post("/login/", {"username": "owner", "password": PASSWORD})
    keys.append(browser.session.session_key)
    response = browser.post("/login/verify/", {"otp_token": code(authenticator(owner).secret_text)})
    keys.append(browser.session.session_key)
    assert response.status_code == 302
    assert len(set(keys)) == 3


def test_a_wrong_code_opens_nothing(owner: Enrolled) -> None:
    browser = with_password(owner)
    response = browser.post("/login/verify/", {"otp_token": "000000"})
    assert response.status_code == 422
    assert browser.get("/api-keys/").status_code == 302


def test_the_second_step_is_not_asked_twice(mine: Client) -> None:
    assert mine.get("/login/verify/").headers["Location"] == "/api-keys/"
    assert mine.get("/login/").headers["Location"] == "/api-keys/"


def test_without_a_factor_the_second_step_is_enrolment(owner: Enrolled) -> None:
    Authenticator.objects.all().delete()
    response = with_password(owner).get("/login/verify/", follow=True)
    assert response.redirect_chain[-1][0].startswith("/security/authenticator/")


def test_the_log_on_leads_to_the_page_that_was_asked_for(owner: Enrolled) -> None:
    browser = Client()
    asked = browser.get("/security/", follow=True)
    data = {"username": "owner", "password": PASSWORD, "next": asked.context["next"]}
    step = browser.post("/login/", data, follow=True)
    data = {"otp_token": owner.spare_codes[0], "next": step.context["next"]}
    assert browser.post("/login/verify/", data).headers["Location"] == "/security/"


@pytest.mark.parametrize(
    "forged",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "http:///evil.example",
        "\0",
        "/login/",
    ],
)
def test_a_forged_next_leads_nowhere_else(owner: Enrolled, forged: str) -> None:
    browser = Client()
    data = {"username": "owner", "password": PASSWORD, "next": forged}
    assert browser.post("/login/", data).headers["Location"] == "/api-keys/"
    data = {"otp_token": owner.spare_codes[0], "next": forged}
    assert browser.post("/login/verify/", data).headers["Location"] == "/api-keys/"


def test_log_out_ends_the_session_on_the_server(owner: Enrolled, mine: Client) -> None:
    cookie = mine.cookies["sessionid"].value
    assert mine.post("/logout/").headers["Location"] == "/login/"
    thief = Client()
    thief.cookies["sessionid"] = cookie
    assert thief.get("/api-keys/").headers["Location"].startswith("/login/")


def test_the_log_on_page_leads_on_whoever_is_logged_on(mine: Client) -> None:
    assert mine.get("/login/?next=/login/").headers["Location"] == "/api-keys/"


def test_a_session_that_lost_its_factor_is_told_so_too(owner: Enrolled) -> None:
    browser = with_password(owner)
    response = browser.post("/api-keys/create/", follow=True)
    assert response.redirect_chain == [("/login/verify/?ended=1", 302)]
    assert b"Your session has ended" in response.content
    assert not owner.api_keys.exists()


@pytest.mark.parametrize("cookie", ['"\\000abcdefgh"', "x" * 10_000, "é", "../../etc"])
def test_a_forged_session_key_is_no_session(db: None, cookie: str) -> None:
    response = Client(HTTP_COOKIE=f"sessionid={cookie}").get("/api-keys/")
    assert response.status_code == 302


def test_a_lost_session_is_told_and_changes_nothing(owner: Enrolled) -> None:
    browser = verified_client(owner)
    browser.session.flush()
    response = browser.post("/api-keys/create/", follow=True)
    assert b"Your session has ended" in response.content
    assert not owner.api_keys.exists()


def test_without_a_password_nothing_is_written_down(owner: Enrolled) -> None:
    for name, password in (("owner", ""), ("owner", "x\0y"), ("", PASSWORD)):
        assert Client().post("/login/", {"username": name, "password": password}).status_code == 422
    assert not Entry.objects.filter(kind=Kind.PASSWORD_REFUSED).exists()


def test_a_key_in_the_wrong_place_is_kept_nowhere(owner: Enrolled) -> None:
    key = keyformat.new_secret()
    browser = Client(headers={"User-Agent": f"Browser {key}"})
    answer = browser.post("/login/", {"username": key, "password": PASSWORD})
    assert answer.status_code == 422 and "This is an API key. Enter your user name." in answer.content.decode()
    assert browser.post(f"/login/?next=/{key}&x={key}", {"username": "owner", "password": "wrong"}).status_code == 422
    assert key[3:] not in str([*Tally.objects.values(), *Entry.objects.values()])
    assert Entry.objects.get(kind=Kind.PASSWORD_REFUSED).browser == "Browser sk-..."


@contextmanager
def statements() -> Iterator[list[str]]:
    """What the database is asked meanwhile, without the values."""
    asked: list[str] = []

    def note(execute: Any, sql: str, *details: Any) -> Any:
        if not sql.startswith(("SAVEPOINT", "RELEASE", "ROLLBACK TO")):
            asked.append(sql)
        return execute(sql, *details)

    with connection.execute_wrapper(note):
        yield asked


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("guesses", [1, 10], ids=["refused", "locked out"])
def test_a_name_that_is_known_and_one_that_is_not_get_the_same_answer_for_the_same_work(
    owner: Enrolled, ram_user: Enrolled, guesses: int
) -> None:
    pages, work = [], []
    names = ("owner", "ram-user", "owner", "ram-user", "nobody")  # the first two have their budgets created
    for n, name in enumerate(names):
        guesser = Client(REMOTE_ADDR=f"192.0.2.{n}")
        for _ in range(guesses):
            with statements() as asked:
                answer = guesser.post("/login/", {"username": name, "password": "wrong"})
        page = html.parsed(answer.content)
        for element in page.select("[nonce], [name=csrfmiddlewaretoken], [name=username]"):
            del element["nonce"], element["value"]
        pages.append((answer.status_code, str(page)))
        work.append(asked)
    assert pages[0] == pages[1] == pages[2] == pages[3] == pages[4]
    assert work[2] == work[3] == work[4]
    assert not Entry.objects.filter(who="nobody").exists()


def test_a_lockout_ends_after_15_minutes(owner: Enrolled) -> None:
    with time_machine.travel("2026-01-01T12:00:00Z", tick=False) as clock:
        for _ in range(10):
            Client().post("/login/", {"username": "owner", "password": "wrong"})
        for minutes, status in ((0, 429), (14, 429), (2, 302)):
            clock.shift(timedelta(minutes=minutes))
            assert Client().post("/login/", {"username": "owner", "password": PASSWORD}).status_code == status


def test_a_log_on_that_fails_at_its_end_is_not_in_the_ledger(owner: Enrolled, codes: Iterator[str]) -> None:
    browser = Client(raise_request_exception=False)
    browser.post("/login/", {"username": "owner", "password": PASSWORD})

    def fail(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith('INSERT INTO "console_session"'):
            raise DatabaseError("injected")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(fail):
        assert browser.post("/login/verify/", {"otp_token": next(codes)}).status_code == 503
    connection.needs_rollback = False
    assert not Entry.objects.filter(kind=Kind.LOGGED_ON_UNFAMILIAR).exists()
    assert browser.post("/login/verify/", {"otp_token": next(codes)}).status_code == 302
    assert Entry.objects.filter(kind=Kind.LOGGED_ON_UNFAMILIAR).count() == 1
