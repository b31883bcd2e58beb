"""A server whose clock was wrong for a while, and is right again: nobody is kept out by it, and no code works twice."""

import random
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.core import mail
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.test import Client

from apikeys.models import ApiKey
from console.factors.authentication import authenticate
from console.factors.models import SPENT_STEPS, Authenticator
from console.factors.refusals import CodeRefused, CodeThrottled, Reason
from console.ledger.kinds import Kind
from console.ledger.models import Entry
from console.models import User
from console.outbox import Email
from console.rate_limits import Tally
from tests.support import html
from tests.support.person import PASSWORD, code
from tests.support.world import Enrolled, enrolled, verified_client

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 6, 1, 12, 0, 5, tzinfo=UTC)
DAY = timedelta(days=1)
STEP = timedelta(seconds=30)


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(NOON, tick=False) as clock:
        yield clock


@pytest.fixture
def secret(clock: time_machine.Traveller, owner: Enrolled) -> str:
    found: str = Authenticator.objects.get(user=owner).secret_text
    return found


def refusal(user: User, given: str) -> Reason | None:
    try:
        authenticate(user, given)
    except CodeRefused as refused:
        return refused.reason
    return None


def forgive(user: User) -> None:
    """Let codes follow one another without a wait."""
    Authenticator.objects.filter(user=user).update(throttling_failure_count=0)


class TestCodes:
    def test_a_day_ahead_at_one_log_on_keeps_nobody_out_afterwards(
        self, clock: time_machine.Traveller, owner: Enrolled, secret: str
    ) -> None:
        for shift in (timedelta(0), DAY, STEP - DAY):  # right, a day ahead, right again
            clock.shift(shift)
            browser = Client()
            browser.post("/login/", {"username": "owner", "password": PASSWORD})
            given = code(secret)
            assert browser.post("/login/verify/", {"otp_token": given}).status_code == 302
            assert refusal(owner, given) is Reason.USED
            forgive(owner)
        page = verified_client(owner).get("/activity/?kind=clock.set_back").content
        said = "Clock set back The server’s clock was ahead by about 1439 min when the last code was used."
        assert html.texts(page, "#activity tbody td") == [said, "System", ""]

    def test_nor_does_a_day_behind(self, clock: time_machine.Traveller, owner: Enrolled, secret: str) -> None:
        for shift in (timedelta(0), -DAY, DAY + STEP):
            clock.shift(shift)
            given = code(secret)
            assert refusal(owner, given) is None
            assert refusal(owner, given) is Reason.USED
            forgive(owner)
        assert Entry.objects.filter(kind=Kind.CLOCK_SET_BACK).count() == 1, "it went back once"

    @pytest.mark.parametrize("steps", [-1, 0, 1])
    def test_a_code_that_was_spent_ahead_does_not_work_when_its_time_comes(
        self, clock: time_machine.Traveller, owner: Enrolled, secret: str, steps: int
    ) -> None:
        clock.shift(DAY)
        given = code(secret)
        assert refusal(owner, given) is None
        clock.shift(-DAY)
        assert refusal(owner, code(secret)) is None
        clock.shift(DAY + steps * STEP)
        assert refusal(owner, given) is Reason.USED
        forgive(owner)
        clock.shift((1 - steps) * STEP)
        assert refusal(owner, code(secret)) is None

    def test_a_code_that_was_spent_before_does_not_work_when_the_clock_returns_to_it(
        self, clock: time_machine.Traveller, owner: Enrolled, secret: str
    ) -> None:
        given = code(secret)
        assert refusal(owner, given) is None
        for _ in range(SPENT_STEPS + 1):
            clock.shift(STEP)
            assert refusal(owner, code(secret)) is None
        clock.shift(-STEP)
        assert refusal(owner, code(secret)) is Reason.USED
        forgive(owner)
        clock.move_to(NOON)
        for ahead in (-1, 0, 1):
            assert refusal(owner, code(secret, ahead)) is Reason.USED, "as old as what is forgotten"
            forgive(owner)

    def test_while_the_clock_is_right_none_older_than_the_last_works(
        self, clock: time_machine.Traveller, owner: Enrolled, secret: str
    ) -> None:
        assert refusal(owner, code(secret, 1)) is None
        for ahead in (-1, 0, 1):
            assert refusal(owner, code(secret, ahead)) is Reason.USED
            forgive(owner)
        assert not Entry.objects.filter(kind=Kind.CLOCK_SET_BACK).exists()

    @pytest.mark.parametrize("seed", range(4))
    def test_however_the_clock_is_set_none_works_twice_and_a_new_one_does(
        self, clock: time_machine.Traveller, owner: Enrolled, secret: str, seed: int
    ) -> None:
        """And where it goes forward alone, exactly the codes that are newer than every spent one work."""
        factor, chance, spent = Authenticator.objects.get(user=owner), random.Random(seed), set[int]()
        for _ in range(600):
            jump = chance.choice(
                [0, 0, 1, 1, 2, 3, 50, 2000] if seed % 2 else [-3000, -60, -3, -1, 0, 1, 1, 2, 50, 3000]
            )
            clock.shift(jump * STEP)
            ahead = chance.choice([-1, 0, 1])
            now = int(datetime.now(UTC).timestamp()) // 30
            accepted = factor.spend(code(secret, ahead)) is None
            assert not (accepted and now + ahead in spent)
            if seed % 2:
                assert accepted == (now + ahead > max(spent, default=-1))
            if accepted:
                spent.add(now + ahead)
        assert len(factor.spent_steps) == SPENT_STEPS < len(spent)

    @pytest.mark.no_mutants
    def test_the_migration_keeps_what_was_spent(self, transactional_db: None) -> None:
        executor = MigrationExecutor(connection)
        last = executor.loader.graph.leaf_nodes()
        before = [("console", "0008_folded_name"), *(node for node in last if node[0] != "console")]
        user = enrolled("owner")
        executor.migrate(before)
        try:
            apps = MigrationExecutor(connection).loader.project_state(before).apps
            apps.get_model("console", "Authenticator").objects.update(last_step=7)
        finally:
            MigrationExecutor(connection).migrate(last)
        assert Authenticator.objects.get(user=user).spent_steps == [7]


class TestWaits:
    """What a wrong clock dated in the future ends as soon as it can."""

    def test_of_a_factor_after_wrong_codes(self, clock: time_machine.Traveller, owner: Enrolled, secret: str) -> None:
        clock.shift(DAY)
        assert refusal(owner, "000000") is Reason.WRONG
        clock.shift(-DAY)
        assert refusal(owner, "000000") is Reason.WRONG, "one is tried, and the waits go on from it"
        with pytest.raises(CodeThrottled):
            authenticate(owner, code(secret))
        clock.shift(2)
        assert refusal(owner, code(secret)) is None

    def test_of_a_user_name_after_wrong_passwords(self, clock: time_machine.Traveller, owner: Enrolled) -> None:
        clock.shift(DAY)
        for _ in range(10):
            Client().post("/login/", {"username": "owner", "password": "wrong"})
        assert Client().post("/login/", {"username": "owner", "password": PASSWORD}).status_code == 429
        clock.shift(-DAY)
        assert Client().post("/login/", {"username": "owner", "password": PASSWORD}).status_code == 302
        clock.shift(timedelta(minutes=16))
        call_command("housekeep", "--once")
        assert not Tally.objects.exists()

    def test_of_a_session_that_would_outlive_its_time(
        self, clock: time_machine.Traveller, owner: Enrolled, secret: str
    ) -> None:
        def log_on() -> Client:
            browser = Client()
            browser.post("/login/", {"username": "owner", "password": PASSWORD})
            assert browser.post("/login/verify/", {"otp_token": code(secret)}).status_code == 302
            return browser

        right = log_on()
        clock.shift(DAY)
        ahead = log_on()
        clock.shift(-DAY)
        call_command("housekeep", "--once")
        assert [browser.get("/api-keys/").status_code for browser in (right, ahead)] == [200, 302]

    def test_of_an_email(self, clock: time_machine.Traveller) -> None:
        clock.shift(DAY)
        Email.queue("owner@example.org", "Subject", "Text")
        clock.shift(-DAY)
        call_command("housekeep", "--once")
        assert [sent.subject for sent in mail.outbox] == ["Subject"]

    def test_of_leak_reports(self, clock: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(time, "sleep", lambda _: None)

        def report() -> int:
            return Client().post("/leaked-keys", "sk-x", content_type="text/plain").status_code

        clock.shift(DAY)
        assert [report() for _ in range(11)] == [202] * 10 + [429]
        clock.shift(-DAY)
        assert report() == 202

    def test_of_creations_which_count_for_the_day_that_they_are_dated(
        self, clock: time_machine.Traveller, owner: Enrolled
    ) -> None:
        clock.shift(DAY)
        ApiKey.objects.issue(owner, uuid.uuid4())
        clock.shift(-DAY)
        assert ApiKey.objects.quota(owner).created_left == 10
        clock.shift(DAY)
        assert ApiKey.objects.quota(owner).created_left == 9
