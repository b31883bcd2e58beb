"""Enrolment, authenticator codes and recovery codes."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import time_machine
from django.db import connection
from django.test import Client

from console.factors import Authenticator, CodeRefused, CodeThrottled, RecoveryCodes
from console.models import User
from console.security import authenticate
from tests.conftest import Enrolled, enrolled
from tests.person import PASSWORD, code, element

NOON = datetime(2026, 6, 1, 12, 0, 5, tzinfo=UTC)


def newcomer() -> Client:
    """A browser in which somebody without a factor has passed the first step."""
    User.objects.create_user("newcomer", password=PASSWORD)
    browser = Client()
    browser.post("/login/", {"username": "newcomer", "password": PASSWORD})
    return browser


def shown_secret(browser: Client) -> str:
    page = browser.get("/security/authenticator/").content.decode()
    assert "<svg" in page and "<path" in page
    return element(page, r'id="totp-secret">([A-Z2-7]+)<')


@pytest.mark.django_db
class TestEnrolment:
    def test_it_verifies_the_session_and_shows_ten_codes_once(self) -> None:
        browser = newcomer()
        response = browser.post("/security/authenticator/", {"otp_token": code(shown_secret(browser))})
        assert response.content.count(b"<li><code>") == 10
        page = browser.get("/security/")
        assert page.status_code == 200
        assert b"10 of 10 left" in page.content
        assert b"<li><code>" not in page.content

    def test_a_reload_keeps_the_secret_and_another_session_sees_another(self) -> None:
        browser, thief = newcomer(), Client()
        thief.post("/login/", {"username": "newcomer", "password": PASSWORD})
        first = shown_secret(browser)
        assert shown_secret(browser) == first
        assert shown_secret(thief) != first

    @pytest.mark.parametrize("wrong", ["", "abc", "000000", "１２３４５６", "+12345", "12_345", "\0", "9" * 10_000])
    def test_a_wrong_code_enrols_nothing(self, wrong: str) -> None:
        browser = newcomer()
        secret = shown_secret(browser)
        assert browser.post("/security/authenticator/", {"otp_token": wrong}).status_code == 422
        assert not Authenticator.objects.filter(confirmed=True).exists()
        assert shown_secret(browser) == secret

    def test_only_the_first_of_two_sessions_enrols(self) -> None:
        browser, second = newcomer(), Client()
        second.post("/login/", {"username": "newcomer", "password": PASSWORD})
        shown_secret(second)
        late = Authenticator.objects.get(pk=second.session["enrolling"])
        browser.post("/security/authenticator/", {"otp_token": code(shown_secret(browser))})
        with pytest.raises(CodeRefused, match="enrolled in another window"):
            late.confirm(replacing=False)
        assert Authenticator.objects.filter(confirmed=True).count() == 1

    def test_losing_that_race_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        browser = newcomer()
        user, secret = User.objects.get(username="newcomer"), shown_secret(browser)
        spend = Authenticator.spend

        def meanwhile(self: Authenticator, given: str) -> CodeRefused | None:
            monkeypatch.setattr(Authenticator, "spend", spend)
            Authenticator.pending(user).confirm(replacing=False)
            return spend(self, given)

        monkeypatch.setattr(Authenticator, "spend", meanwhile)
        response = browser.post("/security/authenticator/", {"otp_token": code(secret)})
        assert response.status_code == 422
        assert b"enrolled in another window" in response.content

    def test_replacing_needs_the_password_and_a_code_of_the_old_one(
        self, owner: Enrolled, mine: Client, codes: Iterator[str]
    ) -> None:
        old, secret = Authenticator.objects.get(user=owner), shown_secret(mine)
        spare = next(codes)
        data = {"otp_token": code(secret), "current-password": PASSWORD, "current-otp_token": spare}
        for wrong in ({"otp_token": "000000"}, {"current-otp_token": "000000"}, {"current-password": "wrong"}):
            assert mine.post("/security/authenticator/", data | wrong).status_code == 422
            assert Authenticator.objects.get(user=owner, confirmed=True) == old
        response = mine.post("/security/authenticator/", data)
        assert response.status_code == 200
        assert Authenticator.objects.get(user=owner).secret_text == secret

    def test_whoever_looked_before_does_not_know_the_secret_that_replaces_it(self, mine: Client) -> None:
        assert shown_secret(mine) != shown_secret(mine)
        assert Authenticator.objects.filter(confirmed=False).count() == 1

    def test_new_recovery_codes_end_the_old(self, owner: Enrolled, mine: Client, codes: Iterator[str]) -> None:
        assert mine.get("/security/recovery-codes/").status_code == 200
        old, spare = next(codes), next(codes)
        for wrong in ({"otp_token": "000000", "password": PASSWORD}, {"otp_token": spare, "password": "wrong"}):
            assert mine.post("/security/recovery-codes/", wrong).status_code == 422
        response = mine.post("/security/recovery-codes/", {"otp_token": spare, "password": PASSWORD})
        assert response.content.count(b"<li><code>") == 10
        with pytest.raises(CodeRefused, match="none of your unused"):
            authenticate(owner, old)


@pytest.mark.django_db
class TestCodes:
    def test_a_code_works_once_and_says_so(self, owner: Enrolled) -> None:
        secret = Authenticator.objects.get(user=owner).secret_text
        with time_machine.travel(NOON, tick=False) as clock:
            authenticate(owner, code(secret))
            with pytest.raises(CodeRefused, match="used already; wait for the next one"):
                authenticate(owner, code(secret))
            clock.shift(30)
            authenticate(owner, code(secret))

    @pytest.mark.parametrize(("steps", "good"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
    def test_one_step_of_clock_drift_is_forgiven(self, owner: Enrolled, steps: int, good: bool) -> None:
        with time_machine.travel(NOON, tick=False):
            given = code(Authenticator.objects.get(user=owner).secret_text, ahead=steps)
            if good:
                authenticate(owner, given)
            else:
                with pytest.raises(CodeRefused, match="That code is wrong"):
                    authenticate(owner, given)

    def test_a_code_may_be_typed_as_the_app_shows_it(self, owner: Enrolled) -> None:
        given = code(Authenticator.objects.get(user=owner).secret_text)
        authenticate(owner, f"{given[:3]} {given[3:]}")

    def test_the_throttle_doubles_up_to_fifteen_minutes(self, owner: Enrolled) -> None:
        waits = []
        with time_machine.travel(NOON, tick=False) as clock:
            for _ in range(14):
                with pytest.raises(CodeRefused, match="That code is wrong"):
                    authenticate(owner, "000000")
                with pytest.raises(CodeThrottled) as refused:
                    authenticate(owner, "000000")
                waits.append(refused.value.retry_after)
                clock.shift(waits[-1])
            authenticate(owner, code(Authenticator.objects.get(user=owner).secret_text))
        assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900]

    def test_a_throttled_authenticator_leaves_the_recovery_codes(self, owner: Enrolled, codes: Iterator[str]) -> None:
        with pytest.raises(CodeRefused):
            authenticate(owner, "000000")
        authenticate(owner, next(codes).upper().replace("-", " "))

    def test_a_recovery_code_works_once(self, owner: Enrolled, codes: Iterator[str], recovery: RecoveryCodes) -> None:
        given = next(codes)
        authenticate(owner, given)
        with pytest.raises(CodeRefused, match="none of your unused"):
            authenticate(owner, given)
        recovery.refresh_from_db()
        assert recovery.left == 9
        assert given.replace("-", "") not in str(recovery.digests)

    def test_a_code_of_another_user_is_wrong(self, owner: Enrolled, other: Enrolled) -> None:
        for given in (code(Authenticator.objects.get(user=other).secret_text), other.spare_codes[0]):
            with pytest.raises(CodeRefused):
                authenticate(owner, given)

    def test_an_unconfirmed_authenticator_verifies_nothing(self, db: None) -> None:
        user = User.objects.create_user("unconfirmed")
        pending = Authenticator.pending(user)
        with pytest.raises(CodeRefused):
            authenticate(user, code(pending.secret_text))
        assert pending.address.startswith("otpauth://totp/API%20Key%20Console%3Aunconfirmed?secret=")

    def test_django_otp_asks_the_same_question(self, recovery: RecoveryCodes, codes: Iterator[str]) -> None:
        assert recovery.verify_token(next(codes).replace("-", ""))
        assert not recovery.verify_token("none of them")


@pytest.mark.django_db(transaction=True)
def test_of_one_code_sent_sixteen_times_at_once_one_is_accepted() -> None:
    user = enrolled("owner")
    given, good, ready = code(Authenticator.objects.get(user=user).secret_text), [], threading.Barrier(16)

    def attempt() -> None:
        ready.wait()
        try:
            good.append(authenticate(user, given))
        except CodeRefused:
            pass
        finally:
            connection.close()

    threads = [threading.Thread(target=attempt) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(good) == 1
