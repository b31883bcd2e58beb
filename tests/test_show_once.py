"""An account may choose that no copy of its API keys is kept that can be viewed again."""

import os
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.db import IntegrityError
from django.test import Client

from apikeys.keys.models import ShownOnce
from apikeys.models import ApiKey
from console.factors.models import RecoveryCodes
from console.ledger.kinds import Kind
from console.ledger.models import Entry
from console.models import User
from console.outbox import Email
from console.vault import Vault, new_key
from tests.support import html
from tests.support.gates import TOKEN, GateInProcess
from tests.support.world import Enrolled, enrolled, verified_client

pytestmark = pytest.mark.django_db
PAGE = "/security/show-once/"


def choose(browser: Client, existing: str, code: object = None) -> Any:
    """With a code of its user, who may have spent all of them."""
    if code is None:
        code = RecoveryCodes.issue(User.objects.get(pk=browser.session["_auth_user_id"]))[0]
    return browser.post(PAGE, {"existing": existing, "otp_token": code}, follow=True)


def turn_on(browser: Client, existing: str = "keep") -> Any:
    return choose(browser, existing)


def create(browser: Client, request_id: object = None) -> Any:
    return browser.post("/api-keys/create/", {"request_id": request_id or uuid.uuid4()})


def recorded(account: User) -> list[tuple[str, dict[str, Any]]]:
    """What the ledger has of this, the oldest first."""
    kinds = (Kind.SHOW_ONCE_ON, Kind.SHOW_ONCE_OFF, Kind.COPIES_DELETED)
    return [(row.kind, row.params) for row in Entry.objects.filter(account=account, kind__in=kinds).order_by("number")]


@pytest.fixture
def shown_once(owner: Enrolled, mine: Client) -> ApiKey:
    """A key that its account shows once."""
    turn_on(mine)
    create(mine)
    return owner.api_keys.get()


class TestTheChoice:
    def test_it_takes_a_code_and_the_earlier_keys_are_as_before(
        self, owner: Enrolled, mine: Client, made: tuple[ApiKey, str]
    ) -> None:
        assert "Copies of API keys are kept, encrypted" in html.text(mine.get("/security/").content, "#show-once")
        for wrong, status in (("", 422), ("000000", 422)):
            answer = choose(mine, "delete", wrong)
            assert answer.status_code == status and html.text(answer.content, ".errorlist")
            assert not User.objects.get(pk=owner.pk).show_once and made[0].reveal() == made[1]
        page = turn_on(mine)
        assert page.redirect_chain == [("/security/", 302)]
        assert "are shown once" in html.text(page.content, "[role=status]")
        assert "New API keys are shown once." in html.text(page.content, "#show-once")
        assert made[0].reveal() == made[1]
        assert recorded(owner) == [(Kind.SHOW_ONCE_ON, {})]
        turn_on(mine)
        assert recorded(owner) == [(Kind.SHOW_ONCE_ON, {})], "twice is once"

    def test_what_becomes_of_existing_copies_is_asked_and_not_assumed(
        self, owner: Enrolled, mine: Client, made: tuple[ApiKey, str]
    ) -> None:
        page = mine.get(PAGE).content
        assert html.text(page, "legend") == "Copy of 1 existing API key"
        choices = html.select(page, "input[name=existing]")
        assert [choice["value"] for choice in choices] == ["keep", "delete"]
        assert not any(choice.has_attr("checked") for choice in choices)
        for wrong in ({}, {"existing": ""}, {"existing": "both"}):
            answer = mine.post(PAGE, {**wrong, "otp_token": owner.spare_codes[0]})
            assert answer.status_code == 422 and html.text(answer.content, ".errorlist")
        assert RecoveryCodes.objects.get(user=owner).left == 10, "nothing was done, so no code is spent"
        assert not User.objects.get(pk=owner.pk).show_once and made[0].reveal() == made[1]

    def test_without_keys_there_is_nothing_to_ask(self, owner: Enrolled, mine: Client) -> None:
        page = mine.get(PAGE).content
        assert not html.select(page, "fieldset")
        assert html.attribute(page, "main input[name=existing]", "value") == "keep"

    def test_existing_copies_are_deleted_where_the_owner_says_so(
        self, owner: Enrolled, other: Enrolled, mine: Client, made: tuple[ApiKey, str]
    ) -> None:
        deleted, foreign = (ApiKey.objects.issue(account, uuid.uuid4())[0] for account in (owner, other))
        deleted.revoke()
        page = turn_on(mine, "delete")
        assert html.texts(page.content, "[role=status]") == [
            "The copies of your existing API keys have been deleted.",
            "API keys that you create from now on are shown once.",
        ]
        assert recorded(owner) == [(Kind.SHOW_ONCE_ON, {}), (Kind.COPIES_DELETED, {"count": 1})]
        with pytest.raises(ShownOnce):
            made[0].reveal()
        assert foreign.reveal()
        turn_on(mine, "delete")
        assert len(recorded(owner)) == 2, "there are none left"

    def test_they_can_be_deleted_later_too(self, owner: Enrolled, mine: Client, made: tuple[ApiKey, str]) -> None:
        turn_on(mine)
        page = mine.get(PAGE).content
        assert "The copy of 1 earlier API key is still kept" in html.text(page, "main")
        assert [button["value"] for button in html.select(page, "button[name=existing]")] == ["again", "delete"]
        turn_on(mine, "delete")
        assert html.attribute(mine.get(PAGE).content, "button[name=existing]", "value") == "again"
        assert recorded(owner)[1:] == [(Kind.COPIES_DELETED, {"count": 1})]

    def test_copies_can_be_kept_again(self, owner: Enrolled, mine: Client) -> None:
        User.objects.filter(pk=owner.pk).update(email="owner@example.org")
        turn_on(mine)
        code = RecoveryCodes.issue(owner)[0]
        page = choose(mine, "again", code)
        assert "Copies of API keys are kept" in html.text(page.content, "#show-once")
        assert recorded(owner) == [(Kind.SHOW_ONCE_ON, {}), (Kind.SHOW_ONCE_OFF, {})]
        assert "can be viewed again with a security code." in Email.objects.latest("pk").body
        create(mine)
        assert owner.api_keys.get().reveal()
        assert choose(mine, "keep", code).status_code == 422, "a code serves once"
        choose(mine, "again")
        assert len(recorded(owner)) == 2, "twice is once"

    def test_a_ram_user_has_no_say_in_it(self, owner: Enrolled, ram_user: Enrolled) -> None:
        browser = verified_client(ram_user)
        assert browser.get(PAGE).status_code == turn_on(browser, "delete").status_code == 403
        assert not html.select(browser.get("/security/").content, "#show-once")
        assert not User.objects.get(pk=owner.pk).show_once

    def test_an_operator_sees_it_and_cannot_change_it(self, owner: Enrolled, mine: Client) -> None:
        operator, page = verified_client(enrolled("operator", is_staff=True)), f"/admin/console/user/{owner.pk}/change/"
        shown = ".field-show_once .readonly img"
        assert html.attribute(operator.get(page).content, shown, "alt") == "False"
        turn_on(mine)
        assert html.attribute(operator.get(page).content, shown, "alt") == "True"
        operator.post(page, {"max_active_keys": "", "max_keys_a_day": ""})
        assert User.objects.get(pk=owner.pk).show_once


class TestAKeyThatIsShownOnce:
    def test_its_secret_is_in_the_answer_to_its_creation_alone(self, owner: Enrolled, mine: Client) -> None:
        turn_on(mine)
        page = create(mine)
        secret = html.attribute(page.content, "#api-key-value", "value")
        assert "it is shown only this once" in html.text(page.content, "dialog")
        key = owner.api_keys.get()
        assert key.sealed_secret is None and key.status == "active"
        with pytest.raises(ShownOnce):
            key.reveal()
        assert secret not in mine.get("/api-keys/").content.decode()
        assert not Entry.objects.filter(kind=Kind.KEY_VIEWED).exists()

    def test_view_says_what_to_do_and_spends_no_code(self, owner: Enrolled, mine: Client, shown_once: ApiKey) -> None:
        address = f"/api-keys/{shown_once.pk}/view/"
        code = RecoveryCodes.issue(owner)[0]
        for answer, status in ((mine.get(address), 200), (mine.post(address, {"otp_token": code}), 409)):
            assert answer.status_code == status
            said = html.text(answer.content, "dialog")
            assert "This API key cannot be viewed: it was shown once" in said
            assert "create another API key, give that key to your programs, and then delete this one" in said
            assert not html.select(answer.content, "dialog [name=otp_token]")
        assert RecoveryCodes.objects.get(user=owner).left == 10
        assert html.attribute(answer.content, "dialog form", "action") == "/api-keys/create/"
        request_id = html.attribute(answer.content, "dialog [name=request_id]", "value")
        assert html.select(create(mine, request_id).content, "#api-key-value")
        leave = html.attribute(answer.content, "dialog a.button", "href")
        assert leave == f"/api-keys/{shown_once.pk}/delete/" and mine.get(leave).status_code == 200
        assert mine.post(leave, {"otp_token": code}).status_code == 302

    def test_where_there_is_no_room_for_another_view_says_so(
        self, owner: Enrolled, mine: Client, shown_once: ApiKey
    ) -> None:
        User.objects.filter(pk=owner.pk).update(max_active_keys=1)
        page = mine.get(f"/api-keys/{shown_once.pk}/view/").content
        assert html.text(page, "dialog .refusal").startswith("You have 1 of 1 API key.")
        assert html.attribute(page, "dialog button.primary", "aria-disabled") == "true"

    def test_a_copy_that_is_deleted_while_a_code_is_typed(
        self, owner: Enrolled, mine: Client, made: tuple[ApiKey, str], codes: Iterator[str]
    ) -> None:
        from apikeys.keys.pages import ViewKey

        act = ViewKey.act

        def late(page: ViewKey, form: Any) -> Any:
            turn_on(verified_client(owner), "delete")
            return act(page, form)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ViewKey, "act", late)
            answer = mine.post(f"/api-keys/{made[0].pk}/view/", {"otp_token": next(codes)})
        assert answer.status_code == 409 and "it was shown once" in html.text(answer.content, "dialog")
        assert not Entry.objects.filter(kind=Kind.KEY_VIEWED).exists()

    def test_the_same_request_again_says_that_it_was_shown(self, owner: Enrolled, mine: Client) -> None:
        turn_on(mine)
        request_id = uuid.uuid4()
        create(mine, request_id)
        again = create(mine, request_id)
        hint = owner.api_keys.get().hint
        said = f"has already created the API key {hint}, which was shown once. If you have not copied it, delete it"
        assert again.status_code == 409 and said in html.text(again.content, "[role=alert]")
        row = Entry.objects.filter(kind=Kind.CREATION_REFUSED).get()
        assert row.params == {"reason": "request_used_shown_once", "existing": hint}
        assert f"The same request had created the API key {hint}." in html.text(mine.get("/activity/").content, "main")

    def test_an_account_that_chose_so_meanwhile_gets_no_copy(self, owner: Enrolled, mine: Client) -> None:
        """The choice counts as it is when the key is stored."""
        turn_on(mine)
        assert not owner.show_once, "as it was read before"
        assert ApiKey.objects.issue(owner, uuid.uuid4())[0].sealed_secret is None

    def test_a_rotation_of_the_vaults_keys_leaves_it_as_it_is(
        self, shown_once: ApiKey, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = bytes(shown_once.digest)
        call_command("rotate_vault")
        said = capsys.readouterr().out
        assert "they recognize keys that are shown once" in said and "rest on older" not in said
        assert bytes(ApiKey.objects.get(pk=shown_once.pk).digest) == before

    def test_one_that_rests_on_older_keys_is_told(
        self, owner: Enrolled, shown_once: ApiKey, settings: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A rotation renews those with a copy, and those that are created later have the newest. Of a key of an earlier
        version it is not known."""
        User.objects.update(show_once=False)
        with_copy, _ = ApiKey.objects.issue(owner, uuid.uuid4())
        User.objects.update(show_once=True)
        settings.VAULT = Vault(os.environ["VAULT_KEYS"], new_key(os.environ["DIGEST_KEYS"]))
        deleted, _ = ApiKey.objects.issue(owner, uuid.uuid4())
        deleted.revoke()
        later, _ = ApiKey.objects.issue(owner, uuid.uuid4())
        call_command("rotate_vault")
        said = "API keys that are shown once and rest on older versions of DIGEST_KEYS: 1."
        assert said in capsys.readouterr().out.splitlines()
        ApiKey.objects.filter(pk__in=[deleted.pk, later.pk]).update(digest_version=None)
        assert {*ApiKey.objects.resting_on_older_keys()} == {shown_once, later}
        assert ApiKey.objects.get(pk=with_copy.pk).digest_version == 2

    def test_a_deleted_key_has_none_either(self, shown_once: ApiKey) -> None:
        shown_once.revoke()
        with pytest.raises(IntegrityError):
            ApiKey.objects.filter(pk=shown_once.pk).update(sealed_secret=b"sealed")


@pytest.mark.django_db(transaction=True)
def test_it_works_at_the_gate(tmp_path: Any, owner: Enrolled, mine: Client, made: tuple[ApiKey, str]) -> None:
    turn_on(mine, "delete")
    new = html.attribute(create(mine).content, "#api-key-value", "value")
    with GateInProcess(tmp_path) as gate:
        for secret in (made[1], new):
            assert gate.ask(TOKEN + secret.encode())[0] == 200
