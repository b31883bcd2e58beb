"""Any order of create, view, delete and next day, by two accounts and a RAM user, against a model of the rules."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.test import Client
from hypothesis import settings, strategies
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test

from apikeys.models import ApiKey
from console.factors.models import RecoveryCodes
from tests.support.world import Enrolled, enrolled, verified_client

ACCOUNTS = strategies.sampled_from([0, 1])


class Keys(RuleBasedStateMachine):
    living = Bundle("living")

    def __init__(self) -> None:
        super().__init__()
        self.clock = time_machine.travel(datetime(2026, 6, 1, 12, tzinfo=UTC), tick=False)
        self.now = self.clock.start()
        some = uuid.uuid4().hex
        self.accounts = [enrolled(f"{some}-{n}") for n in range(2)]
        self.ram_user = enrolled(f"{some}-ram", account=self.accounts[0])
        self.secrets: list[dict[str, str]] = [{}, {}]
        self.created_today = [0, 0]
        self.log_on()

    def teardown(self) -> None:
        self.clock.stop()

    def log_on(self) -> None:
        self.browsers: list[Client] = [verified_client(user) for user in self.accounts]

    def code(self, user: Enrolled) -> str:
        return RecoveryCodes.issue(user)[0]

    @rule(target=living, n=ACCOUNTS)
    def create(self, n: int) -> tuple[int, str] | None:
        response = self.browsers[n].post("/api-keys/create/", {"request_id": uuid.uuid4()})
        allowed = len(self.secrets[n]) < 3 and self.created_today[n] < 10
        assert response.status_code == (200 if allowed else 409)
        if not allowed:
            return None
        key_id = str(response.context["key"].id)
        self.secrets[n][key_id] = response.context["secret"]
        self.created_today[n] += 1
        return n, key_id

    @rule(made=living, n=ACCOUNTS)
    def view(self, made: tuple[int, str] | None, n: int) -> None:
        if made:
            owner, key_id = made
            data = {"otp_token": self.code(self.accounts[n])}
            response = self.browsers[n].post(f"/api-keys/{key_id}/view/", data)
            assert response.status_code == (200 if n == owner else 404)
            assert (self.secrets[owner][key_id] in response.content.decode()) == (n == owner)

    @rule(made=consumes(living))
    def delete(self, made: tuple[int, str] | None) -> None:
        if made:
            n, key_id = made
            data = {"otp_token": self.code(self.accounts[n])}
            assert self.browsers[n].post(f"/api-keys/{key_id}/delete/", data).status_code == 302
            del self.secrets[n][key_id]

    @rule(made=living)
    def ram_user_tries(self, made: tuple[int, str] | None) -> None:
        browser = verified_client(self.ram_user)
        for address in ("create/", f"{made[1]}/view/", f"{made[1]}/delete/") if made else ("create/",):
            data = {"otp_token": self.code(self.ram_user), "request_id": uuid.uuid4()}
            assert browser.post(f"/api-keys/{address}", data).status_code == 403

    @rule(hours=strategies.integers(1, 30))
    def time_passes(self, hours: int) -> None:
        before = datetime.now(UTC).date()
        self.now.shift(timedelta(hours=hours))
        if datetime.now(UTC).date() != before:
            self.created_today = [0, 0]
        self.log_on()

    @invariant()
    def the_quota_is_what_the_model_says(self) -> None:
        for user, secrets, created in zip(self.accounts, self.secrets, self.created_today, strict=True):
            quota = ApiKey.objects.quota(user)
            assert (quota.active, quota.created_today) == (len(secrets), created)


@pytest.mark.django_db
def test_no_order_of_actions_breaks_a_rule() -> None:
    run_state_machine_as_test(Keys, settings=settings(max_examples=25, stateful_step_count=40, deadline=None))
