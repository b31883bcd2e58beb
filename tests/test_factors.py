"""Enrolment, authenticator codes and recovery codes."""

import contextlib
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.conf import settings
from django.db import connection, transaction
from django.test import Client
from pytest_django import Settings

from apikeys.models import ApiKey
from console.factors.authentication import authenticate
from console.factors.models import Authenticator, RecoveryCodes
from console.factors.refusals import CodeRefused, CodeThrottled
from console.ledger.kinds import Kind
from console.ledger.models import Entry
from console.models import User
from console.outbox import Email
from console.sessions.store import Session, stored_key
from console.vault import Vault, new_key
from tests.support import html
from tests.support.person import PASSWORD, code
from tests.support.world import Enrolled, enrolled, verified_client, whole

NOON = datetime(2026, 6, 1, 12, 0, 5, tzinfo=UTC)
MALFORMED = "Enter the six-digit code from your authenticator app, or a recovery code."
WRONG = "The code is incorrect. Enter the code that your authenticator app shows now."
USED = "This code has already been used. Wait for the next one."
NONE_OF_YOURS = "This recovery code is incorrect or has already been used."
TOO_LATE = "An authenticator was enrolled in another window. Log on with that one."


def newcomer() -> Client:
    """A browser in which somebody without a factor has passed the first step."""
    User.objects.create_user("newcomer", password=PASSWORD)
    browser = Client()
    browser.post("/login/", {"username": "newcomer", "password": PASSWORD})
    return browser


def shown_secret(browser: Client) -> str:
    page = browser.get("/security/authenticator/").content
    assert html.one(page, ".qr svg path")["d"]
    return html.text(page, "#totp-secret")


@pytest.mark.django_db
class TestEnrolment:
    def test_it_verifies_the_session_and_shows_ten_codes_once(self) -> None:
        browser = newcomer()
        response = browser.post("/security/authenticator/", {"otp_token": code(shown_secret(browser))})
        assert len(html.texts(response.content, "#recovery-codes li code")) == 10
        page = browser.get("/security/")
        assert page.status_code == 200
        assert b"10 of 10 left" in page.content
        assert not html.select(page.content, "#recovery-codes")

    def test_a_reload_keeps_the_secret_and_another_session_sees_another(self) -> None:
        browser, thief = newcomer(), Client()
        thief.post("/login/", {"username": "newcomer", "password": PASSWORD})
        first = shown_secret(browser)
        assert len(first) == 32, "160 bits in base32 (RFC 4226, 4)"
        assert shown_secret(browser) == first
        assert shown_secret(thief) != first

    @pytest.mark.parametrize("wrong", ["", "abc", "000000", "１２３４５６", "+12345", "12_345", "\0", "9" * 10_000])
    def test_a_wrong_code_enrols_nothing(self, wrong: str) -> None:
        browser = newcomer()
        secret = shown_secret(browser)
        assert browser.post("/security/authenticator/", {"otp_token": wrong}).status_code == 422
        assert not Authenticator.objects.filter(confirmed=True).exists()
        assert shown_secret(browser) == secret

    @pytest.mark.parametrize("replacing", [False, True])
    def test_only_the_first_of_two_sessions_enrols(self, replacing: bool) -> None:
        browser, second = newcomer(), Client()
        second.post("/login/", {"username": "newcomer", "password": PASSWORD})
        shown_secret(second)
        late = Authenticator.objects.get(pk=second.session["enrolling"])
        browser.post("/security/authenticator/", {"otp_token": code(shown_secret(browser))})
        first, third = Authenticator.objects.get(confirmed=True), Authenticator.pending(late.user)
        codes = RecoveryCodes.objects.get().digests
        for lost in (late, first) if replacing else (late, first, third):
            with pytest.raises(CodeRefused, match=whole(TOO_LATE)):
                lost.confirm(replacing=replacing)
        assert Authenticator.objects.get(confirmed=True) == first and RecoveryCodes.objects.get().digests == codes

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
        assert TOO_LATE in response.content.decode()

    def test_a_new_one_ends_the_other_sessions_of_its_user_and_is_written_down(
        self, owner: Enrolled, other: Enrolled
    ) -> None:
        kept, *_, anothers = [stored_key(verified_client(user).session) for user in (owner, owner, other)]
        new = Authenticator.pending(owner)
        with time_machine.travel(NOON, tick=False):
            new.confirm(replacing=True, session=kept)
        assert {*Session.objects.values_list("session_key", flat=True)} == {kept, anothers}
        found = Authenticator.objects.get(user=owner)
        assert (found, found.created_at, found.last_used_at) == (new, NOON, NOON)
        assert [*Entry.objects.filter(account=owner, at=NOON).order_by("number").values_list("kind", "params")] == [
            (Kind.FACTOR_REMOVED, {"user": "owner", "factor": "totp"}),
            (Kind.FACTOR_ADDED, {"user": "owner", "factor": "totp"}),
            (Kind.RECOVERY_CODES_CREATED, {"user": "owner"}),
        ]

    def test_a_rotation_of_the_vault_meanwhile_stays(self, owner: Enrolled) -> None:
        new = Authenticator.pending(owner)
        rotated = settings.VAULT.seal(new.place, new.secret)
        Authenticator.objects.filter(pk=new.pk).update(sealed_secret=rotated)
        new.confirm(replacing=True)
        assert bytes(Authenticator.objects.get(user=owner).sealed_secret) == rotated

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

    def test_one_that_was_changed_from_outside_is_written_down_and_another_shown(self) -> None:
        browser = newcomer()
        shown = shown_secret(browser)
        Authenticator.objects.update(sealed_secret=b"nonsense")
        assert shown_secret(browser) != shown
        assert Entry.objects.get(kind=Kind.FACTOR_DAMAGED).account.username == "newcomer"

    def test_whoever_looked_before_does_not_know_the_secret_that_replaces_it(self, mine: Client) -> None:
        assert shown_secret(mine) != shown_secret(mine)
        assert Authenticator.objects.filter(confirmed=False).count() == 1

    def test_new_recovery_codes_end_the_old(self, owner: Enrolled, mine: Client, codes: Iterator[str]) -> None:
        assert mine.get("/security/recovery-codes/").status_code == 200
        old, spare = next(codes), next(codes)
        for wrong in ({"otp_token": "000000", "password": PASSWORD}, {"otp_token": spare, "password": "wrong"}):
            assert mine.post("/security/recovery-codes/", wrong).status_code == 422
        response = mine.post("/security/recovery-codes/", {"otp_token": spare, "password": PASSWORD})
        assert len(html.texts(response.content, "#recovery-codes li code")) == 10
        with pytest.raises(CodeRefused, match=whole(NONE_OF_YOURS)):
            authenticate(owner, old)


@pytest.mark.django_db
class TestCodes:
    @pytest.mark.parametrize("steps", [-1, 0, 1])
    def test_a_code_works_once_and_says_so(self, owner: Enrolled, steps: int) -> None:
        secret = Authenticator.objects.get(user=owner).secret_text
        with time_machine.travel(NOON, tick=False) as clock:
            given = code(secret, ahead=steps)
            authenticate(owner, given)
            with pytest.raises(CodeRefused, match=whole(USED)):
                authenticate(owner, given)
            clock.shift(30)
            authenticate(owner, code(secret, ahead=steps))

    @pytest.mark.parametrize(
        ("given", "said", "recorded"),
        [
            *((given, MALFORMED, None) for given in ("", "abcdef", "12345", "1234567", "１２３４５６", "+12345")),
            *(("a" * signs, MALFORMED, None) for signs in (23, 25)),
            ("000000", WRONG, ("totp", "wrong")),
            ("a" * 24, NONE_OF_YOURS, ("recovery-code", "unknown-recovery-code")),
        ],
    )
    def test_a_refusal_says_what_to_do_and_a_guess_is_written_down(
        self, owner: Enrolled, given: str, said: str, recorded: tuple[str, str] | None
    ) -> None:
        with pytest.raises(CodeRefused, match=whole(said)):
            authenticate(owner, given)
        written = Entry.objects.filter(account=owner, kind=Kind.CODE_REFUSED).values_list("factor", "params__reason")
        assert [*written] == ([recorded] if recorded else [])

    @pytest.mark.parametrize(
        "spend",
        [
            lambda owner: authenticate(owner, owner.spare_codes[0]),
            lambda owner: Authenticator.pending(owner).confirm(replacing=True),
        ],
    )
    def test_no_change_that_may_still_fail_can_take_a_spent_code_back(
        self, owner: Enrolled, spend: Callable[[Enrolled], object]
    ) -> None:
        with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
            spend(owner)

    @pytest.mark.parametrize(("steps", "good"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
    def test_one_step_of_clock_drift_is_forgiven(self, owner: Enrolled, steps: int, good: bool) -> None:
        with time_machine.travel(NOON, tick=False):
            given = code(Authenticator.objects.get(user=owner).secret_text, ahead=steps)
            if good:
                authenticate(owner, given)
            else:
                with pytest.raises(CodeRefused, match=whole(WRONG)):
                    authenticate(owner, given)

    def test_a_code_may_be_typed_as_the_app_shows_it(self, owner: Enrolled) -> None:
        given = code(Authenticator.objects.get(user=owner).secret_text)
        authenticate(owner, f"{given[:3]} {given[3:]}")

    def test_the_throttle_doubles_up_to_fifteen_minutes(self, owner: Enrolled) -> None:
        waits = []
        with time_machine.travel(NOON, tick=False) as clock:
            for _ in range(14):
                with pytest.raises(CodeRefused, match=whole(WRONG)):
                    authenticate(owner, "000000")
                with pytest.raises(CodeThrottled) as refused:
                    authenticate(owner, "000000")
                waits.append(refused.value.retry_after)
                clock.shift(waits[-1])
            authenticate(owner, code(Authenticator.objects.get(user=owner).secret_text))
        assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900]

    def test_after_a_hundred_in_a_row_it_is_suspended_and_the_owner_is_told(self, owner: Enrolled) -> None:
        User.objects.filter(pk=owner.pk).update(email="owner@example.org")
        with time_machine.travel(NOON, tick=False) as clock:
            for _ in range(100):
                with pytest.raises(CodeRefused, match=whole(WRONG)):
                    authenticate(owner, "000000")
                clock.shift(900)
            right = code(Authenticator.objects.get(user=owner).secret_text)
            with pytest.raises(CodeRefused, match="Your authenticator is suspended"):
                authenticate(owner, right)
            authenticate(owner, right, verified=False)
        assert Entry.objects.get(kind=Kind.FACTOR_SUSPENDED).params == {"user": "owner", "factor": "totp"}
        (guessed, suspended) = Email.objects.order_by("pk").values_list("body", flat=True)
        assert "entered 5 wrong security codes in a row for user owner" in guessed
        assert "is suspended after 100 incorrect codes" in suspended
        authenticate(owner, owner.spare_codes[0])
        Authenticator.pending(owner).confirm(replacing=True)
        authenticate(owner, code(Authenticator.objects.get(user=owner).secret_text))

    def test_failures_at_the_log_on_keep_no_verified_owner_from_anything(self, owner: Enrolled, mine: Client) -> None:
        """Somebody who knows the password tries codes; the owner, who is logged on, deletes a key meanwhile."""
        key = ApiKey.objects.issue(owner, uuid.uuid4())[0]
        thief = Client()
        thief.post("/login/", {"username": "owner", "password": PASSWORD})
        answers = [thief.post("/login/verify/", {"otp_token": "000000"}).status_code for _ in range(3)]
        assert answers == [422, 429, 429]
        right = code(Authenticator.objects.get(user=owner).secret_text)
        assert mine.post(f"/api-keys/{key.pk}/delete/", {"otp_token": right}).status_code == 302

    def test_when_it_was_last_used_is_when_a_code_was_right(self, owner: Enrolled, codes: Iterator[str]) -> None:
        right = next(codes)
        with time_machine.travel(NOON, tick=False) as clock:
            for given in ("a" * 24, right, "b" * 24):
                clock.shift(60)
                with contextlib.suppress(CodeRefused):
                    authenticate(owner, given)
        found = RecoveryCodes.objects.get(user=owner)
        assert found.last_used_at == NOON + timedelta(minutes=2)
        assert found.throttling_failure_count == 1, "since then"

    def test_guesses_do_not_slow_down_recovery_codes(self, owner: Enrolled, codes: Iterator[str]) -> None:
        for _ in range(5):
            with pytest.raises(CodeRefused, match=whole(NONE_OF_YOURS)):
                authenticate(owner, "a" * 24)
        authenticate(owner, next(codes))

    def test_a_throttled_authenticator_leaves_the_recovery_codes(self, owner: Enrolled, codes: Iterator[str]) -> None:
        with pytest.raises(CodeRefused):
            authenticate(owner, "000000")
        authenticate(owner, next(codes).upper().replace("-", " "))

    def test_a_recovery_code_works_once(self, owner: Enrolled, codes: Iterator[str], recovery: RecoveryCodes) -> None:
        given = next(codes)
        authenticate(owner, given)
        with pytest.raises(CodeRefused, match=whole(NONE_OF_YOURS)):
            authenticate(owner, given)
        recovery.refresh_from_db()
        assert recovery.left == 9
        assert given.replace("-", "") not in str(recovery.digests)

    def test_a_code_of_another_user_is_wrong(self, owner: Enrolled, other: Enrolled) -> None:
        for user, another in ((owner, other), (other, owner)):  # whichever of them is first in the database
            with pytest.raises(CodeRefused, match=whole(WRONG)):
                authenticate(user, code(Authenticator.objects.get(user=another).secret_text))
            with pytest.raises(CodeRefused, match=whole(NONE_OF_YOURS)):
                authenticate(user, another.spare_codes[0])

    def test_recovery_codes_moved_to_another_user_open_nothing(
        self, owner: Enrolled, other: Enrolled, recovery: RecoveryCodes
    ) -> None:
        RecoveryCodes.objects.filter(user=other).update(digests=recovery.digests)
        with pytest.raises(CodeRefused, match=whole(NONE_OF_YOURS)):
            authenticate(other, owner.spare_codes[0])

    def test_codes_name_the_version_of_their_key(
        self, owner: Enrolled, codes: Iterator[str], recovery: RecoveryCodes, settings: Settings
    ) -> None:
        """Those of an earlier release do not, and count as older."""
        keys = settings.VAULT, Vault(new_key(), new_key(os.environ["DIGEST_KEYS"]))
        assert {digest[:2] for digest in recovery.digests} == {"1:"} and not recovery.rests_on_older_keys()
        settings.VAULT = keys[1]
        assert recovery.rests_on_older_keys()
        authenticate(owner, next(codes))
        recovery.digests = [digest[2:] for digest in RecoveryCodes.objects.get(user=owner).digests]
        recovery.save()
        for vault in keys:
            settings.VAULT = vault
            assert recovery.rests_on_older_keys()
            authenticate(owner, next(codes))
        assert RecoveryCodes.objects.get(user=owner).left == 7
        RecoveryCodes.issue(owner)
        assert {digest[:2] for digest in RecoveryCodes.objects.get(user=owner).digests} == {"2:"}

    def test_an_unconfirmed_authenticator_verifies_nothing(self, db: None) -> None:
        user = User.objects.create_user("unconfirmed")
        pending = Authenticator.pending(user)
        with pytest.raises(CodeRefused, match=whole(MALFORMED)):
            authenticate(user, code(pending.secret_text))
        assert pending.uri.startswith("otpauth://totp/API%20Key%20Console%3Aunconfirmed?secret=")

    def test_django_otps_own_way_opens_nothing(self, recovery: RecoveryCodes, codes: Iterator[str]) -> None:
        """It knows no account's lock, and whose failures to count."""
        assert not recovery.verify_token(next(codes).replace("-", ""))


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
