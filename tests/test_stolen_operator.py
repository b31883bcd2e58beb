"""Whoever has an operator's cookie and no code changes nothing: every address and action of the operators' site."""

import copy
from collections.abc import Iterator
from itertools import chain
from typing import Any

import pytest
from django.apps import apps
from django.contrib.admin.sites import site
from django.db.models import Model
from django.test import Client, RequestFactory
from django.urls import URLPattern, URLResolver
from django.utils import timezone

from apikeys.models import ApiKey, Usage
from console.ledger.kinds import Kind
from console.ledger.models import Entry
from console.models import OperatorRequest, User
from console.rate_limits import RateLimit, Tally, take
from console.sessions.store import Session
from tests.support import html
from tests.support.world import Enrolled, Operator, enrolled, verified_client

pytestmark = pytest.mark.django_db
USERS, KEYS = "/admin/console/user/", "/admin/apikeys/apikey/"
POSTED = {"username": "newcomer", "email": "new@example.org", "account": "", "max_active_keys": "9", "hint": "x"}


@pytest.fixture
def operator() -> Operator:
    return Operator()


@pytest.fixture
def victim(db: None) -> Enrolled:
    """An operator with whatever can be taken away."""
    user = enrolled("victim", is_staff=True, is_superuser=True, email="victim@example.org")
    ApiKey.objects.issue(user, "7" * 32)  # type: ignore[arg-type]
    verified_client(user)
    enrolled("member", account=user)
    take([RateLimit("address", 10, subject="victim")])
    return user


def rows(action: str, victim: User) -> list[Model]:
    """What that action changes something of."""
    if action in ("confirm", "reject"):
        target = User.objects.create(username=f"to-{action}", is_active=False)
        return [OperatorRequest.ask(victim, "enable", [target], [target])]
    if action == "delete_leaked":
        return [*ApiKey.objects.of(victim)]
    if action == "invite_again":
        return [User.objects.create(username="invited", password="!")]
    User.objects.filter(pk=victim.pk).update(is_active=action != "enable", is_staff=action != "grant_role")
    return [victim]


def actions() -> Iterator[tuple[str, str]]:
    """Each with the address that it is posted to."""
    for model, admin in site._registry.items():
        request = RequestFactory().get("/")
        request.user = User(is_staff=True)
        for action in admin.get_actions(request):
            yield f"/admin/{model._meta.app_label}/{model._meta.model_name}/", action


def addresses(patterns: list[Any], before: str, victim: User) -> Iterator[str]:
    for pattern in patterns:
        address = f"{before}{pattern.pattern}"
        if isinstance(pattern, URLResolver):
            yield from addresses(pattern.url_patterns, address, victim)
        elif isinstance(pattern, URLPattern) and pattern.name != "logout":
            key = ApiKey.objects.of(victim)[0]
            yield address.replace("<path:object_id>", str(key.pk if "apikey" in address else victim.pk))


def everything(*but: type[Model]) -> dict[str, Any]:
    """Each row of each table, but for sessions, which note when they were seen."""
    return {
        model._meta.label: [*model._default_manager.order_by("pk").values()]
        for model in apps.get_models()
        if model not in (Session, *but)
    }


def stolen(operator: Operator) -> Client:
    thief = Client()
    thief.cookies = copy.deepcopy(operator.cookies)
    return thief


def test_no_address_changes_anything(operator: Operator, victim: Enrolled) -> None:
    thief, before = stolen(operator), everything()
    found = [*addresses(site.urls[0], "/admin/", victim)]
    assert {f"{USERS}add/", f"{USERS}{victim.pk}/change/", f"{KEYS}{ApiKey.objects.get().pk}/delete/"} <= {*found}
    for address in found:
        for code in ({}, {"otp_token": ""}):
            thief.post(address, POSTED | code)
            assert everything() == before, address
    assert victim.sessions.exists()


def test_no_action_does(operator: Operator, victim: Enrolled) -> None:
    thief = stolen(operator)
    for address, action in actions():
        chosen, before = [row.pk for row in rows(action, victim)], everything()
        for code in ({}, {"otp_token": ""}, {"index": "0"}):
            answer = thief.post(address, {"action": action, "_selected_action": chosen} | code)
            assert html.select(answer.content, "[name=otp_token]"), action
            assert everything() == before, action
    assert victim.sessions.exists()


@pytest.mark.parametrize("code", ["000000", "a" * 24, "x", "\0"])
def test_nor_with_a_wrong_code(operator: Operator, victim: Enrolled, code: str) -> None:
    thief = stolen(operator)
    kept = [User, ApiKey, Tally, OperatorRequest]
    others = [model for model in apps.get_models() if model not in kept]
    for address, action in actions():
        chosen, before = [row.pk for row in rows(action, victim)], everything(*others)
        answer = thief.post(address, {"action": action, "_selected_action": chosen, "otp_token": code})
        assert answer.status_code in (422, 429) and everything(*others) == before, action
    for address in (f"{USERS}add/", f"{USERS}{victim.pk}/change/"):
        answer = thief.post(address, POSTED | {"otp_token": code})
        assert answer.status_code in (422, 429) and everything(*others) == before, address
    assert not Entry.objects.filter(account=victim, who="operator").exists() and victim.sessions.exists()


def test_a_code_serves_one_action(operator: Operator, victim: Enrolled) -> None:
    code = next(operator.codes)
    data = {"action": "disable", "_selected_action": victim.pk, "otp_token": code}
    assert operator.post(USERS, data).status_code == 302
    assert operator.post(USERS, data | {"action": "enable"}).status_code == 422
    assert not User.objects.get(pk=victim.pk).is_active


def test_with_a_code_each_does_what_it_says(operator: Operator, victim: Enrolled) -> None:
    """So the walks above knock at the right doors."""
    operator.codes = chain.from_iterable(operator.new_codes() for _ in range(3))
    for address, action in actions():
        chosen = rows(action, victim)
        written = Entry.objects.filter(who="operator").exclude(account=operator.user).count()
        assert operator.act(action, *chosen, address=address).status_code == 200
        assert Entry.objects.filter(who="operator").exclude(account=operator.user).count() > written, action
    for address in (f"{USERS}add/", f"{USERS}{victim.pk}/change/"):
        written = Entry.objects.filter(who="operator").exclude(account=operator.user).count()
        assert operator.post(address, POSTED | {"otp_token": next(operator.codes)}).status_code in (200, 302)
        assert Entry.objects.filter(who="operator").exclude(account=operator.user).count() > written, address


class TestWhatAnActStops:
    def test_disabling_says_how_much(self, operator: Operator, victim: Enrolled) -> None:
        this_hour = timezone.now().replace(minute=0, second=0, microsecond=0)
        Usage.objects.create(key=ApiKey.objects.get(), hour=this_hour, accepted=120, refused=0)
        page = operator.post(USERS, {"action": "disable", "_selected_action": victim.pk}).content
        assert html.texts(page, "#effects li") == [
            "1 session ends.",
            "1 RAM user is logged out.",
            "1 API key is denied.",
            "They were used for 120 calls in the last 24 hours.",
        ]
        assert html.texts(page, "#chosen li") == ["victim"]

    def test_so_does_the_deletion_of_leaked_keys(self, operator: Operator, victim: Enrolled) -> None:
        data = {"action": "delete_leaked", "_selected_action": ApiKey.objects.get().pk}
        page = operator.post(KEYS, data).content
        assert html.texts(page, "#effects li")[0] == "1 API key is denied."

    def test_what_was_confirmed_is_what_is_done(self, operator: Operator, victim: Enrolled) -> None:
        """All rows of the list, as they were when it was chosen."""
        data = {"action": "disable", "_selected_action": victim.pk, "select_across": "1"}
        page = operator.post(f"{USERS}?q=victim", data).content
        ids = [str(hidden["value"]) for hidden in html.select(page, "#chosen input")]
        enrolled("victim2")
        confirmed = {"action": "disable", "_selected_action": ids, "otp_token": next(operator.codes)}
        operator.post(f"{USERS}?q=victim", confirmed)
        assert [*User.objects.filter(is_active=False)] == [victim]

    def test_a_row_that_is_gone_costs_no_code(self, operator: Operator) -> None:
        page = operator.post(USERS, {"action": "disable", "_selected_action": 4711}, follow=True).content.decode()
        assert "The selected items no longer exist." in page


class TestTheOperatorsRole:
    def test_it_is_withdrawn_at_once(self, operator: Operator) -> None:
        other = Operator("other")
        operator.act("withdraw_role", other.user)
        assert other.get(USERS).status_code == 302
        assert verified_client(other.user).get(USERS).status_code in (302, 403)
        entry = Entry.objects.get(kind=Kind.OPERATOR_WITHDRAWN)
        assert (entry.account, entry.who) == (other.user, "operator")

    def test_of_who_has_none_there_is_nothing_to_withdraw(self, operator: Operator, owner: Enrolled) -> None:
        operator.act("withdraw_role", owner)
        assert not Entry.objects.filter(kind=Kind.OPERATOR_WITHDRAWN).exists()


def test_the_sessions_of_an_account_are_ended(
    operator: Operator, owner: Enrolled, mine: Client, ram_user: Enrolled
) -> None:
    member = verified_client(ram_user)
    for _ in range(2):
        operator.act("end_sessions", owner)
    assert mine.get("/security/").status_code == member.get("/security/").status_code == 302
    entry = Entry.objects.get(kind=Kind.SESSIONS_ENDED)
    assert entry.account == owner and entry.params == {"user": "owner", "count": 2}
