"""What one operator cannot do alone where there is another, and the ledger of what operators did."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
import time_machine
from django.contrib.admin.sites import site
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client

from apikeys.models import ApiKey
from console.factors.models import Authenticator
from console.ledger.kinds import OF_OPERATORS, Kind
from console.ledger.models import Entry, InstallationEntry
from console.ledger.record import begin_installation
from console.ledger.sentences import ACTIONS
from console.models import OperatorRequest, Recovery, User
from console.operators import grant_role, set_active
from tests.support import filling, html
from tests.support.tampering import drop_triggers
from tests.support.world import Enrolled, Operator, only_postgres, verified_client

pytestmark = pytest.mark.django_db
USERS, REQUESTS = "/admin/console/user/", "/admin/console/operatorrequest/"
DAY = timedelta(hours=24)


@pytest.fixture
def first(db: None) -> Operator:
    return Operator("first")


@pytest.fixture
def second(db: None) -> Operator:
    return Operator("second")


def confirm(operator: Operator, action: str = "confirm") -> Any:
    return operator.act(action, *OperatorRequest.objects.all(), address=REQUESTS)


def messages(answer: Any) -> list[str]:
    return html.texts(answer.content, ".messagelist li")


def links(answer: Any) -> list[str]:
    return [urlsplit(link).path for link in html.texts(answer.content, ".invitation")]


class TestTwoOperators:
    @pytest.mark.parametrize("action", ["reset_factors", "reset_password"])
    def test_a_recovery_link_needs_both(self, first: Operator, second: Operator, owner: Enrolled, action: str) -> None:
        asked = first.act(action, owner)
        assert messages(asked) == ["Another operator has to confirm this within 24 hours."] and not links(asked)
        assert "owner" in html.text(second.get(REQUESTS).content, "#result_list tbody th")
        (path,) = links(confirm(second))
        assert Client().get(path).status_code == 200 and not OperatorRequest.objects.exists()
        rows = Entry.objects.filter(account=owner).order_by("number").values_list("kind", "who", "params__action")
        assert [*rows][-3:] == [
            (Kind.ACT_REQUESTED, "first", action),
            (Kind.ACT_CONFIRMED, "second", action),
            (Kind.RECOVERY_CREATED, "second", None),
        ]
        assert Entry.objects.get(kind=Kind.ACT_CONFIRMED).params["by"] == "first"

    def test_so_does_a_new_operator(self, first: Operator, second: Operator, owner: Enrolled) -> None:
        first.act("grant_role", owner)
        assert not User.objects.get(pk=owner.pk).is_staff
        confirm(second)
        assert User.objects.get(pk=owner.pk).is_staff
        grant_role(owner)
        assert Entry.objects.filter(kind=Kind.OPERATOR_ADDED).count() == 1, "who is one already is not made one again"

    def test_who_has_no_factor_cannot_be_made_one(self, first: Operator, second: Operator) -> None:
        """Whoever has the invitation link would be the second operator."""
        newcomer = User.objects.create(username="newcomer", password="!")
        assert messages(first.act("grant_role", newcomer)) == [
            "An operator needs a password and an authenticator first, which the user sets."
        ]
        User.objects.filter(pk=newcomer.pk).update(is_staff=True)
        assert "An operator is not invited" in messages(first.act("invite_again", newcomer))[0]
        assert not OperatorRequest.objects.exists()

    def test_what_somebody_asked_who_is_no_operator_any_more_is_not_confirmed(
        self, first: Operator, second: Operator, owner: Enrolled
    ) -> None:
        first.act("reset_factors", owner)
        set_active(first.user, False)
        assert not html.select(second.get(REQUESTS).content, "#result_list tbody th")
        confirm(second)
        assert not Recovery.objects.exists()

    def test_so_does_anything_in_bulk(self, first: Operator, second: Operator, owner: Enrolled) -> None:
        users = filling.users(2, account=owner)
        page = first.post(USERS, {"action": "disable", "_selected_action": [user.pk for user in users]})
        assert "another operator has to confirm it" in html.text(page.content, "#waits")
        first.act("disable", *users)
        assert User.objects.filter(is_active=False).count() == 0
        confirm(second)
        assert User.objects.filter(is_active=False).count() == 2
        keys = [ApiKey.objects.issue(owner, uuid.uuid4())[0] for _ in range(2)]
        first.act("delete_leaked", *keys, address="/admin/apikeys/apikey/")
        assert ApiKey.objects.filter(deleted_at=None).count() == 2
        confirm(second)
        assert ApiKey.objects.filter(deleted_at=None).count() == 0

    def test_the_page_says_what_would_stop(self, first: Operator, second: Operator, owner: Enrolled) -> None:
        first.act("disable", *filling.users(2, account=owner))
        chosen = {"_selected_action": OperatorRequest.objects.get().pk}
        page = second.post(REQUESTS, {"action": "confirm", **chosen})
        assert "0 sessions end." in html.texts(page.content, "#effects li")
        assert not html.select(second.post(REQUESTS, {"action": "reject", **chosen}).content, "#effects li")

    def test_what_stops_one_account_is_done_at_once(self, first: Operator, second: Operator, owner: Enrolled) -> None:
        for action in ("end_sessions", "disable"):
            first.act(action, owner)
        assert not User.objects.get(pk=owner.pk).is_active and not OperatorRequest.objects.exists()

    def test_nobody_confirms_their_own(self, first: Operator, second: Operator, owner: Enrolled) -> None:
        first.act("reset_factors", owner)
        assert "Another operator has to confirm it." in messages(confirm(first))[0]
        assert OperatorRequest.objects.exists()

    def test_nor_what_is_done_to_themselves(self, first: Operator, second: Operator) -> None:
        first.act("reset_factors", second.user)
        assert "You cannot apply this action to yourself." in messages(confirm(second))[0]

    def test_nor_two_at_once(self, first: Operator, second: Operator, owner: Enrolled) -> None:
        first.act("reset_factors", owner)
        first.act("grant_role", owner)
        assert messages(confirm(second)) == ["Select one request at a time."]

    @pytest.mark.parametrize("action", ["confirm", "reject"])
    def test_nor_what_is_no_longer_there(
        self, first: Operator, second: Operator, owner: Enrolled, monkeypatch: pytest.MonkeyPatch, action: str
    ) -> None:
        first.act("grant_role", owner)
        end = OperatorRequest.end

        def late(self: OperatorRequest, *words: Any) -> Any:
            end(self, *words)
            return end(self, *words)

        monkeypatch.setattr(OperatorRequest, "end", late)
        assert messages(confirm(second, action)) == ["The request no longer exists."]
        assert not User.objects.get(pk=owner.pk).is_staff

    def test_a_request_is_rejected_also_by_who_made_it(
        self, first: Operator, second: Operator, owner: Enrolled
    ) -> None:
        for operator in (first, second):
            first.act("grant_role", owner)
            assert messages(confirm(operator, "reject")) == ["The request has been rejected."]
        assert not OperatorRequest.objects.exists() and not User.objects.get(pk=owner.pk).is_staff
        rejected = Entry.objects.filter(kind=Kind.ACT_REJECTED).order_by("number").values_list("who", flat=True)
        assert [*rejected] == ["first", "second"]

    def test_it_is_good_for_a_day(self, first: Operator, second: Operator, owner: Enrolled) -> None:
        first.act("grant_role", owner)
        asked = OperatorRequest.objects.get()
        for back, shown in ((DAY - timedelta(minutes=1), 1), (DAY + timedelta(minutes=1), 0)):
            OperatorRequest.objects.update(at=datetime.now(UTC) - back)
            assert len(html.select(second.get(REQUESTS).content, "#result_list tbody tr")) == shown
        assert messages(confirm(second)) == ["The selected items no longer exist."]
        assert not asked.end(Kind.ACT_CONFIRMED, [owner])
        first.act("reset_factors", owner)
        assert not OperatorRequest.objects.filter(pk=asked.pk).exists()


class TestWhoCounts:
    def test_one_alone_acts_alone(self, first: Operator, owner: Enrolled) -> None:
        assert len(links(first.act("reset_factors", owner))) == 1

    def test_nor_who_has_no_factor_or_is_disabled(self, first: Operator, second: Operator, owner: Enrolled) -> None:
        User.objects.filter(pk=second.user.pk).update(is_active=False)
        assert len(links(first.act("reset_factors", owner))) == 1
        User.objects.filter(pk=second.user.pk).update(is_active=True)
        Authenticator.objects.filter(user=second.user).delete()
        assert len(links(first.act("reset_factors", owner))) == 1

    @pytest.mark.parametrize("action", ["disable", "withdraw_role"])
    def test_who_stops_the_other_is_not_alone_for_a_day(
        self, first: Operator, second: Operator, owner: Enrolled, action: str
    ) -> None:
        first.act(action, second.user)
        assert messages(first.act("reset_factors", owner)) == ["Another operator has to confirm this within 24 hours."]
        with time_machine.travel(datetime.now(UTC) + DAY, tick=False):
            first.cookies = verified_client(first.user).cookies
            assert len(links(first.act("reset_factors", owner))) == 1


class TestTheInstallationsLedger:
    def test_it_has_what_operators_and_commands_did_to_any_account(
        self, first: Operator, owner: Enrolled, mine: Client
    ) -> None:
        first.act("end_sessions", owner)
        first.act("disable", owner)
        call_command("createroot", "new", "--operator")
        rows = InstallationEntry.objects.order_by("number").values_list("kind", "actor", "who", "params__account")
        assert [*rows] == [
            (Kind.INSTALLATION_BEGUN, "command", "", None),
            (Kind.SESSIONS_ENDED, "user", "first", "owner"),
            (Kind.DISABLED, "user", "first", "owner"),
            (Kind.USER_CREATED, "command", "", "new"),
            (Kind.OPERATOR_ADDED, "command", "", "new"),
        ]
        page = first.get("/admin/console/installationentry/").content
        shown = [[cell.get_text() for cell in row.find_all(["td", "th"])] for row in html.select(page, "tbody tr")]
        assert [row[2:5] for row in shown][:2] == [
            ["Operator’s role granted", "Command line", "new"],
            ["User created", "Command line", "new"],
        ]
        assert mine.get("/admin/console/installationentry/").status_code == 302

    def test_not_what_others_did(self, owner: Enrolled, mine: Client) -> None:
        before = InstallationEntry.objects.count()
        key, secret = ApiKey.objects.issue(owner, uuid.uuid4())
        Client().post("/leaked-keys", secret, content_type="text/plain")
        assert Entry.objects.filter(kind=Kind.KEY_LEAKED).exists()
        assert InstallationEntry.objects.count() == before

    def test_it_is_verified(self, first: Operator, owner: Enrolled, capsys: pytest.CaptureFixture[str]) -> None:
        for action in ("disable", "enable"):
            first.act(action, owner)
        for words in ([], ["--installation"]):
            call_command("verify_ledger", *words)
            assert "installation: 3 rows, last hash" in capsys.readouterr().out
        drop_triggers()
        with connection.cursor() as cursor:
            cursor.execute("UPDATE console_installationentry SET who = 'nobody' WHERE number = 2")
        with pytest.raises(CommandError, match="installation: row 2, or a row before it, was changed"):
            call_command("verify_ledger")
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM console_installationentry")
        with pytest.raises(CommandError, match="installation: it has no rows"):
            call_command("verify_ledger", "--installation")

    def test_it_begins_once(self) -> None:
        for _ in range(2):
            begin_installation("default")
        assert InstallationEntry.objects.get().kind == Kind.INSTALLATION_BEGUN

    def test_every_action_has_a_name_and_a_ledger(self) -> None:
        found = {action for admin in site._registry.values() for action in admin.actions or ()}
        assert found - {"confirm", "reject"} == {*ACTIONS}
        assert {Kind.ACT_REQUESTED, Kind.ACT_CONFIRMED, Kind.ACT_REJECTED} <= OF_OPERATORS


@only_postgres
@pytest.mark.django_db(transaction=True)
def test_acts_on_many_accounts_at_once_make_one_chain() -> None:
    users = [User.objects.create(username=f"user-{n}") for n in range(16)]

    def disable(user: User) -> None:
        try:
            set_active(user, False)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(disable, users))
    assert InstallationEntry.objects.filter(kind=Kind.DISABLED).count() == 16
    call_command("verify_ledger", "--installation")
