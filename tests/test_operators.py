"""What operators can do, and what they can never see."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import time_machine
from django.core import mail
from django.core.management import call_command
from django.test import Client

from apikeys.keys.limits import CreationRefused
from apikeys.models import ApiKey
from console.factors.models import Authenticator, RecoveryCodes
from console.ledger.kinds import Kind
from console.ledger.models import Entry
from console.models import User
from console.operators import invite, set_active
from console.rate_limits import Tally
from tests.support import filling, html
from tests.support.gates import Gate, new_key
from tests.support.person import PASSWORD
from tests.support.world import Enrolled, Operator, verified_client

pytestmark = pytest.mark.django_db
USERS, KEYS = "/admin/console/user/", "/admin/apikeys/apikey/"


@pytest.fixture
def operator() -> Operator:
    return Operator()


def add(operator: Operator, **fields: object) -> Any:
    data = {"username": "newcomer", "email": "new@example.org", "account": "", "otp_token": next(operator.codes)}
    return operator.post(f"{USERS}add/", data | fields)


def link_in(answer: Any) -> str:
    return urlsplit(html.text(answer.content, ".invitation")).path


class TestInvitations:
    def test_a_new_account_sets_its_own_password_once(self, operator: Operator) -> None:
        link = link_in(add(operator))
        assert link not in operator.get(USERS).content.decode()
        browser = Client()
        assert "Welcome, newcomer" in browser.get(link).content.decode()
        weak = browser.post(link, {"new_password": "short"})
        assert weak.status_code == 422 and "at least 15 characters" in weak.content.decode()
        assert browser.post(link, {"new_password": PASSWORD}).headers["Location"] == "/login/"
        for answer in (browser.get(link), browser.post(link, {"new_password": "another long sentence"})):
            assert answer.status_code == 410 and "This link is no longer valid" in answer.content.decode()
        user = User.objects.get(username="newcomer")
        assert user.check_password(PASSWORD) and user.is_root_account and not user.is_staff
        kinds = Entry.objects.filter(account=user).order_by("number").values_list("kind", "who")
        assert list(kinds) == [
            (Kind.USER_CREATED, "operator"),
            (Kind.INVITED, "operator"),
            (Kind.PASSWORD_CHANGED, "newcomer"),
        ]
        after = browser.post("/login/", {"username": "newcomer", "password": PASSWORD}, follow=True)
        assert "totp-secret" in after.content.decode()

    def test_it_is_good_for_a_day(self, operator: Operator) -> None:
        link = link_in(add(operator))
        for hours, status in ((23.9, 200), (24.1, 410)):
            with time_machine.travel(datetime.now(UTC) + timedelta(hours=hours)):
                assert Client().get(link).status_code == status
        assert Client().get(link[:-2] + "/").status_code == 410
        assert Client().get(link.replace("/invitation/", "/invitation/9")).status_code == 410

    def test_another_only_where_there_is_no_password(self, operator: Operator, owner: Enrolled) -> None:
        add(operator)
        user = User.objects.get(username="newcomer")
        assert Client().get(link_in(operator.act("invite_again", user, owner))).status_code == 200
        with pytest.raises(ValueError, match="owner already has a password"):
            invite(owner)
        assert "which only they can change" in operator.act("invite_again", owner).content.decode()

    def test_another_ends_the_one_before(self, operator: Operator) -> None:
        first = link_in(add(operator))
        second = link_in(operator.act("invite_again", User.objects.get(username="newcomer")))
        assert Client().get(first).status_code == 410
        assert Client().post(first, {"new_password": PASSWORD}).status_code == 410
        assert Client().get(second).status_code == 200

    def test_a_ram_user(self, operator: Operator, owner: Enrolled, ram_user: Enrolled) -> None:
        assert add(operator, account=owner.pk).status_code == 200
        assert User.objects.get(username="newcomer").account == owner
        refused = add(operator, username="of-a-ram-user", account=ram_user.pk)
        assert "Select a valid choice" in refused.content.decode()


class TestHelp:
    def test_a_lockout(self, operator: Operator, owner: Enrolled) -> None:
        browser = Client()
        for _ in range(11):
            browser.post("/login/", {"username": "owner", "password": "wrong"})
        assert browser.post("/login/", {"username": "owner", "password": PASSWORD}).status_code == 429
        operator.act("lift_lockout", owner)
        assert browser.post("/login/", {"username": "owner", "password": PASSWORD}).status_code == 302
        assert Entry.objects.filter(kind=Kind.LOCKOUT_LIFTED, who="operator", account=owner).exists()

    def test_lifting_a_lockout_lets_nobody_guess_codes(self, operator: Operator, owner: Enrolled, mine: Client) -> None:
        """Not the operator either, who holds a session of the owner's account and lifts between guesses."""
        key = ApiKey.objects.issue(owner, uuid.uuid4())[0]
        answers = []
        for _ in range(5):
            operator.act("lift_lockout", owner)
            answers.append(mine.post(f"/api-keys/{key.pk}/view/", {"otp_token": "000000"}).status_code)
        assert answers == [422, 429, 429, 429, 429]

    def test_nobody_lifts_their_own_lockout(self, operator: Operator) -> None:
        Client().post("/login/", {"username": "operator", "password": "wrong"})
        before = Tally.objects.count()
        operator.act("lift_lockout", operator.user)
        assert Tally.objects.count() == before > 0

    def test_an_accounts_limits(self, operator: Operator, owner: Enrolled, mine: Client) -> None:
        address = f"{USERS}{owner.pk}/change/"
        data = {"email": "operator@example.org", "max_active_keys": "5", "max_keys_a_day": ""}
        for code in (next(operator.codes), next(operator.codes)):
            assert operator.post(address, data | {"otp_token": code}).status_code == 302
        statuses = [mine.post("/api-keys/create/", {"request_id": uuid.uuid4()}).status_code for _ in range(6)]
        assert statuses == [200] * 5 + [409]
        assert Entry.objects.get(kind=Kind.LIMITS_CHANGED).params == {"max_active_keys": 5, "max_keys_a_day": None}
        assert not User.objects.get(pk=owner.pk).email, "an operator cannot take an owner's mail"

    @pytest.mark.parametrize("address", [USERS, KEYS])
    @pytest.mark.parametrize("chosen", ["x", "9" * 30, "\0", "-1"])
    def test_rows_that_are_none_are_no_fault_of_the_server(self, operator: Operator, address: str, chosen: str) -> None:
        action = "disable" if address == USERS else "delete_leaked"
        answer = operator.post(address, {"action": action, "_selected_action": chosen})
        assert answer.status_code in (302, 400)

    def test_nothing_is_done_without_a_token(self, operator: Operator, owner: Enrolled) -> None:
        forger = Client(enforce_csrf_checks=True)
        forger.cookies = operator.cookies
        data = {"action": "disable", "_selected_action": owner.pk, "otp_token": next(operator.codes)}
        assert forger.post(USERS, data).status_code == 403
        assert User.objects.get(pk=owner.pk).is_active

    def test_nobody_does_it_to_himself(self, operator: Operator) -> None:
        for action in ("disable", "reset_factors", "reset_password", "lift_lockout", "withdraw_role"):
            assert "You cannot apply this action to yourself." in operator.act(action, operator.user).content.decode()
        assert operator.get(USERS).status_code == 200


class TestManyRows:
    """Lists of 10,000 accounts and 100,000 keys."""

    def test_pages_of_50(self, operator: Operator, owner: Enrolled) -> None:
        filling.users(60, account=owner)
        filling.keys(owner, 60)
        for path in (USERS, KEYS):
            assert len(html.select(operator.get(path).content, "#result_list tbody tr")) == 50

    def test_a_key_is_found_by_its_hint_and_by_its_account(self, operator: Operator, owner: Enrolled) -> None:
        keys = filling.keys(owner, 10)
        filling.keys(User.objects.get(username="operator"), 10)
        hint = keys[3].hint
        for asked in (hint, hint.replace("…", "..."), hint[:8], f"{hint[3:7]}...{hint[-4:-2]}"):
            page = operator.get(KEYS, {"q": asked}).content
            assert html.texts(page, "#result_list tbody th") == [hint], asked
        assert len(html.select(operator.get(KEYS, {"q": "own"}).content, "#result_list tbody tr")) == 10

    def test_what_no_name_or_search_can_be_is_told(self, operator: Operator) -> None:
        answer = add(operator, username="\ufdfa" * 150)  # 2,700 characters, once normalized
        assert answer.status_code == 422 and not User.objects.filter(email="new@example.org").exists()
        field = {"app_label": "console", "model_name": "user", "field_name": "account"}
        assert operator.get("/admin/autocomplete/", {**field, "term": "\0own"}).status_code == 200

    @pytest.mark.parametrize("account", ["http://example.org", "9" * 30, "-1", "None"])
    def test_what_is_no_account_is_told(self, operator: Operator, account: str) -> None:
        answer = add(operator, account=account)
        assert answer.status_code == 422 and not User.objects.filter(username="newcomer").exists()
        assert "not one of the available choices" in html.text(answer.content, ".field-account .errorlist")

    def test_a_root_account_is_looked_up_not_listed(self, operator: Operator, owner: Enrolled, ram_user: User) -> None:
        page = operator.get(f"{USERS}add/").content
        assert html.texts(page, "select[name=account] option") == [""]
        field = {"app_label": "console", "model_name": "user", "field_name": "account"}
        for term, found in (("own", ["owner"]), ("ram", [])):
            answer = operator.get("/admin/autocomplete/", field | {"term": term}).json()
            assert [result["text"] for result in answer["results"]] == found

    def test_at_most_100_at_once(self, operator: Operator, owner: Enrolled) -> None:
        users = filling.users(101, account=owner)
        ids = [user.pk for user in users]
        across = {"action": "disable", "_selected_action": ids[:1], "select_across": "1"}
        for data in ({"action": "disable", "_selected_action": ids}, across):
            answer = operator.post(f"{USERS}?q={users[0].username[:8]}", data, follow=True)
            said = "You can select up to 100 items at a time. No items have been changed."
            assert html.texts(answer.content, ".messagelist li") == [said]
            assert not User.objects.filter(is_active=False).exists()
        operator.act("disable", *users[:100])
        assert User.objects.filter(is_active=False).count() == 100


class TestDisabling:
    def test_sessions_and_ram_users_stop_at_once(
        self, operator: Operator, owner: Enrolled, mine: Client, ram_user: Enrolled
    ) -> None:
        member = verified_client(ram_user)
        assert member.get("/security/").status_code == 200
        operator.act("disable", owner)
        for browser in (mine, member):
            assert browser.get("/security/").status_code == 302
        for name in ("owner", "ram-user"):
            answer = Client().post("/login/", {"username": name, "password": PASSWORD})
            assert answer.status_code == 422 and "is incorrect" in answer.content.decode()
        operator.act("enable", owner)
        assert Client().post("/login/", {"username": "ram-user", "password": PASSWORD}).status_code == 302
        done = Entry.objects.filter(kind__in=(Kind.DISABLED, Kind.ENABLED)).order_by("number")
        assert list(done.values_list("account", "kind", "who", "params__user")) == [
            (owner.pk, Kind.DISABLED, "operator", "owner"),
            (owner.pk, Kind.ENABLED, "operator", "owner"),
        ]

    def test_no_key_is_made_by_a_request_under_way(self, owner: Enrolled) -> None:
        set_active(User.objects.get(pk=owner.pk), False)
        with pytest.raises(CreationRefused, match="This account is disabled"):
            ApiKey.objects.issue(owner, uuid.uuid4())


@pytest.mark.django_db(transaction=True)
def test_the_keys_of_a_disabled_account_stop_at_the_gate_at_once(tmp_path: Path) -> None:
    key, secret = new_key()
    with Gate(tmp_path) as gate:
        assert gate.status(secret) == 200
        set_active(key.account, False)
        answers = [gate.ask(b"dashvector-auth-token: " + secret.encode()) for _ in range(20)]
        assert {(status, headers["x-api-key-status"]) for status, headers, _ in answers} == {(401, "disabled")}
        set_active(key.account, True)
        assert gate.status(secret) == 200


class TestLeakedKeys:
    def test_an_operator_deletes_one(self, operator: Operator, owner: Enrolled) -> None:
        User.objects.filter(pk=owner.pk).update(email="owner@example.org")
        key = ApiKey.objects.issue(owner, uuid.uuid4())[0]
        for deleted in ("1 API key deleted.", "0 API keys deleted."):
            assert deleted in operator.act("delete_leaked", key, address=KEYS).content.decode()
        assert Entry.objects.get(kind=Kind.KEY_LEAKED).who == "operator"
        call_command("housekeep", "--once")
        assert [sent for sent in mail.outbox if "was reported as leaked and has been deleted" in sent.body]


class TestWhatTheyNeverSee:
    def test_no_page_shows_a_secret_a_digest_or_a_factor(self, operator: Operator, owner: Enrolled) -> None:
        key, secret = ApiKey.objects.issue(owner, uuid.uuid4())
        factor, recovery = Authenticator.objects.get(user=owner), RecoveryCodes.objects.get(user=owner)
        hidden = [
            secret,
            bytes(key.digest).hex(),
            factor.secret_text,
            *recovery.digests,
            *owner.spare_codes,
            owner.password,
        ]
        addresses = [
            "/admin/",
            USERS,
            KEYS,
            f"{USERS}{owner.pk}/change/",
            f"{KEYS}{key.pk}/change/",
            f"{USERS}{owner.pk}/history/",
            f"{KEYS}{key.pk}/history/",
            f"{USERS}?q=owner",
        ]
        for address in addresses:
            answer = operator.get(address)
            assert answer.status_code == 200, address
            assert not [text for text in hidden if text in answer.content.decode()], address

    def test_there_is_no_other_way_to_a_key_or_a_password(self, operator: Operator, owner: Enrolled) -> None:
        key = ApiKey.objects.issue(owner, uuid.uuid4())[0]
        for address in (f"{KEYS}add/", f"{KEYS}{key.pk}/delete/", f"{USERS}{owner.pk}/delete/"):
            assert operator.get(address).status_code == 403, address
        assert operator.post(f"{KEYS}{key.pk}/change/", {"hint": "x"}).status_code == 403
        data = {"email": "", "is_staff": "on", "password": "x", "username": "x", "otp_token": next(operator.codes)}
        assert operator.post(f"{USERS}{owner.pk}/change/", data).status_code == 302
        assert not User.objects.get(username="owner").is_staff
        assert operator.get("/admin/password_change/").headers["Location"] == "/security/password/"
        assert operator.get(f"{USERS}?password__startswith=p").status_code == 400

    def test_its_log_out_is_the_consoles(self, operator: Operator) -> None:
        answer = operator.post("/admin/logout/")
        assert answer.headers["Location"] == "/login/" and "storage" in answer.headers["Clear-Site-Data"]
        assert operator.get("/admin/").status_code == 302

    def test_others_are_kept_out(self, mine: Client) -> None:
        for address in ("/admin/", USERS, f"{USERS}add/", KEYS):
            assert mine.get(address).status_code in (302, 403)
            assert b"operator" in mine.get(address, follow=True).content


class TestGuessingFromEverywhere:
    @pytest.mark.parametrize("written", ["owner", " owner", "ｏwner"])
    def test_however_the_name_is_written(self, written: str, owner: Enrolled, settings: Any) -> None:
        settings.GUESSES_PER_ACCOUNT = 3
        for n in range(3):
            Client(REMOTE_ADDR=f"192.0.2.{n}").post("/login/", {"username": written, "password": "wrong"})
        kinds = [*Entry.objects.filter(account=owner).values_list("kind", flat=True)][:3]
        assert kinds == [Kind.LOCKED_OUT, Kind.PASSWORD_REFUSED, Kind.PASSWORD_REFUSED]
        data = {"username": written, "password": PASSWORD}
        assert Client(REMOTE_ADDR="192.0.2.99").post("/login/", data).status_code == 429

    def test_it_is_limited_but_not_where_the_owner_logs_on_from(
        self, owner: Enrolled, codes: Iterator[str], settings: Any
    ) -> None:
        settings.GUESSES_PER_ACCOUNT = 5
        at_home = {"REMOTE_ADDR": "192.0.2.200"}
        browser = Client(**at_home)  # type: ignore[arg-type]
        browser.post("/login/", {"username": "owner", "password": PASSWORD})
        browser.post("/login/verify/", {"otp_token": next(codes)})
        for n in range(5):
            Client(REMOTE_ADDR=f"192.0.2.{n}").post("/login/", {"username": "owner", "password": "wrong"})
        data = {"username": "owner", "password": PASSWORD}
        assert Client(REMOTE_ADDR="192.0.2.99").post("/login/", data).status_code == 429
        assert Client(REMOTE_ADDR="192.0.2.99").post("/login/", data | {"username": "x\0"}).status_code == 422
        assert Client(**at_home).post("/login/", data).status_code == 302  # type: ignore[arg-type]
