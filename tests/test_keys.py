"""The list, and create, view and delete as its owner meets them."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
from django.test import Client

from apikeys.keys import format as keyformat
from apikeys.keys.models import KeyDeleted
from apikeys.models import ApiKey, Usage
from console.factors.authentication import authenticate
from console.factors.models import Authenticator
from console.ledger.kinds import Kind
from console.ledger.models import Entry
from console.origin import Actor, ActorKind, Origin, acting
from console.vault import VaultError
from tests.support import html
from tests.support.person import code
from tests.support.world import Enrolled, verified_client

pytestmark = pytest.mark.django_db


def create(browser: Client, request_id: object = None) -> Any:
    response = browser.post("/api-keys/create/", {"request_id": request_id or uuid.uuid4()})
    return response


def text(response: Any) -> str:
    return unescape(response.content.decode())


@pytest.fixture
def key(owner: Enrolled) -> ApiKey:
    return ApiKey.objects.issue(owner, uuid.uuid4())[0]


def test_an_empty_list_says_what_to_do(mine: Client) -> None:
    page = text(mine.get("/api-keys/"))
    assert "You have no API keys." in page
    assert "0 of 3" in page and "10 of 10" in page
    assert "resets at 00:00 UTC, in " in page


def test_create_shows_the_key_once_with_the_warnings(owner: Enrolled, mine: Client) -> None:
    response = create(mine)
    assert response.status_code == 200
    secret = response.context["secret"]
    assert keyformat.well_formed(secret)
    assert text(response).count(secret) == 1
    assert "keep them secure" in text(response) and "Make API calls only from the server side." in text(response)
    assert "no-store" in response.headers["Cache-Control"]
    page = text(mine.get("/api-keys/"))
    assert secret not in page and keyformat.hint(secret) in page
    assert "1 of 3" in page and "9 of 10" in page


def test_create_is_idempotent(owner: Enrolled, mine: Client) -> None:
    request_id = uuid.uuid4()
    first = create(mine, request_id)
    again = create(mine, request_id)
    assert again.status_code == 409
    made = keyformat.hint(first.context["secret"])
    said = f"This request has already created the API key {made}. Select View to see it."
    assert html.text(again.content, "[role=alert]") == said
    owner.api_keys.get().revoke()
    said = f"This request has already created the API key {made}, which has since been deleted."
    assert html.text(create(mine, request_id).content, "[role=alert]") == said
    assert first.context["secret"] not in text(again)
    assert owner.api_keys.count() == 1


@pytest.mark.parametrize("request_id", ["", "1", "\0", "x" * 10_000])
def test_a_create_without_a_good_request_id_creates_nothing(owner: Enrolled, mine: Client, request_id: str) -> None:
    response = mine.post("/api-keys/create/", {"request_id": request_id})
    assert response.status_code == 400
    assert "Reload the page and try again" in text(response)
    assert not owner.api_keys.exists()


def test_a_fourth_key_is_refused_with_the_reason_where_the_button_stays(owner: Enrolled, mine: Client) -> None:
    for _ in range(3):
        assert create(mine).status_code == 200
    page = text(mine.get("/api-keys/"))
    assert html.attribute(page, "form[action='/api-keys/create/'] button", "aria-disabled") == "true"
    assert "first delete an existing key" in page
    response = create(mine)
    assert response.status_code == 409
    assert "You have 3 of 3 API keys" in text(response)
    assert owner.api_keys.count() == 3


def test_view_asks_every_time(mine: Client, key: ApiKey, codes: Iterator[str]) -> None:
    address = f"/api-keys/{key.id}/view/"
    secret = key.reveal()
    assert secret not in text(mine.get(address))
    response = mine.post(address, {"otp_token": next(codes)})
    assert response.status_code == 200
    assert text(response).count(secret) == 1
    assert "no-store" in response.headers["Cache-Control"]
    assert secret not in text(mine.get(address))
    assert mine.post(address).status_code == 422


@pytest.mark.parametrize("action", ["view", "delete"])
@pytest.mark.parametrize(
    "wrong",
    ["", "000000", "１２３４５６", "+12345", "abcdef-abcdef-abcdef-abcdef", "\0", "9" * 10_000, "é" * 24],
)
def test_a_wrong_code_gets_the_dialog_again_and_changes_nothing(
    mine: Client, key: ApiKey, action: str, wrong: str
) -> None:
    response = mine.post(f"/api-keys/{key.id}/{action}/", {"otp_token": wrong, "unknown": "field"})
    assert response.status_code == 422
    page = text(response)
    assert "Verify" in html.text(page, "dialog[open] form") and html.text(page, "dialog[open] .errorlist")
    assert key.reveal() not in page


def test_a_throttled_factor_says_how_long(mine: Client, key: ApiKey) -> None:
    address = f"/api-keys/{key.id}/view/"
    mine.post(address, {"otp_token": "000000"})
    response = mine.post(address, {"otp_token": "000000"})
    assert response.status_code == 429
    assert "Try again in 1 s" in text(response)


def test_the_code_of_the_log_on_does_not_serve_again(owner: Enrolled, key: ApiKey) -> None:
    given = code(Authenticator.objects.get(user=owner).secret_text)
    browser = verified_client(owner)
    session = browser.session
    del session["otp_device_id"]
    session.save()
    assert browser.post("/login/verify/", {"otp_token": given}).status_code == 302
    response = browser.post(f"/api-keys/{key.id}/view/", {"otp_token": given})
    assert response.status_code == 422
    assert "already been used. Wait for the next one" in text(response)


def test_delete_confirms_then_authenticates(mine: Client, key: ApiKey, codes: Iterator[str]) -> None:
    address = f"/api-keys/{key.id}/delete/"
    page = text(mine.get(address))
    assert "Confirm Deletion" in page and "all subsequent API calls that use the key will be denied" in page
    assert "otp_token" not in page
    page = text(mine.get(f"{address}?confirmed=1"))
    assert "otp_token" in page and "Confirm Deletion" not in page
    assert ApiKey.objects.active().count() == 1
    response = mine.post(address, {"otp_token": next(codes)}, follow=True)
    assert response.redirect_chain == [("/api-keys/", 302)]
    assert "has been deleted" in text(response)
    assert not ApiKey.objects.active().exists()


def test_deleting_keeps_the_trace_and_drops_the_secret(key: ApiKey) -> None:
    key.revoke()
    kept = ApiKey.objects.get(pk=key.pk)
    assert kept.deleted_at and kept.digest and kept.sealed_secret is None
    with pytest.raises(KeyDeleted):
        kept.reveal()
    with pytest.raises(KeyDeleted):
        key.revoke()


def test_deleted_keys_are_listed_with_the_calls_that_were_refused_since(key: ApiKey, owner: Enrolled) -> None:
    first = datetime(2026, 1, 1, tzinfo=UTC)
    for hours, refused in ((0, 3), (1, 1), (2, 0)):
        hour = first + timedelta(hours=hours)
        Usage.objects.create(key=key, hour=hour, accepted=5, refused=refused)
    key.revoke()
    last = ApiKey.objects.issue(owner, uuid.uuid4())[0]
    last.revoke()
    listed: list[Any] = list(ApiKey.objects.last_deleted(20))
    assert [(one.pk, one.refused, one.last_refused) for one in listed] == [
        (last.pk, None, None),
        (key.pk, 4, first + timedelta(hours=1)),
    ]


def test_each_act_is_in_the_ledger_once(owner: Enrolled, key: ApiKey) -> None:
    key.reveal()
    with acting(Origin(lambda: Actor(ActorKind.USER, "somebody"))):
        key.revoke()
    rows = Entry.objects.exclude(key_id=None).order_by("number")
    assert list(rows.values_list("kind", "key_id", "key", "actor", "who")) == [
        (Kind.KEY_CREATED, key.pk, key.hint, "command", ""),
        (Kind.KEY_VIEWED, key.pk, key.hint, "command", ""),
        (Kind.KEY_DELETED, key.pk, key.hint, "user", "somebody"),
    ]
    leaked = ApiKey.objects.issue(owner, uuid.uuid4())[0]
    leaked.revoke("leaked")
    assert [entry.kind for entry in Entry.objects.filter(key_id=leaked.pk)] == [Kind.KEY_LEAKED, Kind.KEY_CREATED]


@pytest.mark.parametrize(
    ("field", "why"), [("digest", "belongs to another secret."), ("sealed_secret", "cannot be opened.")]
)
def test_what_was_changed_from_outside_is_in_the_ledger(key: ApiKey, field: str, why: str) -> None:
    ApiKey.objects.filter(pk=key.pk).update(**{field: b"0" * 32})
    with pytest.raises(VaultError, match=why):
        key.reveal()
    entry = Entry.objects.get(kind=Kind.KEY_DAMAGED)
    assert (entry.key_id, entry.key) == (key.pk, key.hint)


@pytest.mark.parametrize("action", ["view", "delete"])
def test_a_key_deleted_in_another_window_says_so(mine: Client, key: ApiKey, action: str, codes: Iterator[str]) -> None:
    key.revoke()
    for response in (
        mine.get(f"/api-keys/{key.id}/{action}/"),
        mine.post(f"/api-keys/{key.id}/{action}/", {"otp_token": next(codes)}),
    ):
        assert response.status_code == 404
        assert "This API key has already been deleted" in text(response)


@pytest.mark.parametrize("action", ["view", "delete"])
def test_a_key_deleted_while_the_code_is_checked_says_so(
    mine: Client, key: ApiKey, action: str, codes: Iterator[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(user: Enrolled, code: str, verified: bool) -> object:
        ApiKey.objects.get(pk=key.pk).revoke()
        return authenticate(user, code, verified=verified)

    monkeypatch.setattr("console.pages.secured.authenticate", meanwhile)
    response = mine.post(f"/api-keys/{key.id}/{action}/", {"otp_token": next(codes)})
    assert response.status_code == 404
    assert "This API key has already been deleted" in text(response)


def test_a_moved_secret_opens_nowhere_and_shows_nothing(
    owner: Enrolled, mine: Client, key: ApiKey, codes: Iterator[str]
) -> None:
    second, secret = ApiKey.objects.issue(owner, uuid.uuid4())
    ApiKey.objects.filter(pk=key.pk).update(sealed_secret=second.sealed_secret)
    mine.raise_request_exception = False
    response = mine.post(f"/api-keys/{key.id}/view/", {"otp_token": next(codes)})
    assert response.status_code == 500
    assert secret not in text(response) and "modified outside the console" in text(response)
