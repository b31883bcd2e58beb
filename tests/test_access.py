"""Every address as nobody, unverified, RAM user and another account; with the wrong method, and without a token."""

import uuid

import pytest
from django.test import Client

from apikeys.models import ApiKey
from console.factors.models import Authenticator
from console.models import User
from tests.support import html
from tests.support.addresses import OPEN, PASSWORD_ONLY, addresses
from tests.support.person import PASSWORD
from tests.support.world import Enrolled, verified_client

pytestmark = pytest.mark.django_db
KEY = uuid.UUID(int=7)
CLOSED = [address for address in addresses(KEY) if address not in {*OPEN, *PASSWORD_ONLY}]
KEY_PAGES = [address for address in addresses(KEY) if address.startswith("/api-keys/")]
METHODS = ["get", "post", "put", "delete", "patch"]


def test_the_walk_meets_the_console() -> None:
    assert len(CLOSED) >= 6 and len(KEY_PAGES) >= 4


@pytest.mark.parametrize("address", [*CLOSED, *PASSWORD_ONLY, "/admin/"])
@pytest.mark.parametrize("method", METHODS)
def test_nobody_is_led_to_the_log_on(address: str, method: str) -> None:
    response = getattr(Client(), method)(address)
    assert response.status_code == 302
    assert response.headers["Location"].startswith("/login/?")


@pytest.mark.parametrize("address", [*CLOSED, "/admin/"])
@pytest.mark.parametrize("method", METHODS)
def test_the_unverified_are_led_to_the_second_step(owner: Enrolled, address: str, method: str) -> None:
    browser = Client()
    browser.post("/login/", {"username": "owner", "password": PASSWORD})
    response = getattr(browser, method)(address)
    assert response.status_code == 302
    assert response.headers["Location"].startswith("/login/verify/?")


@pytest.mark.parametrize("address", [*CLOSED, *PASSWORD_ONLY, "/admin/", "/admin/console/user/"])
@pytest.mark.parametrize("method", METHODS)
def test_whose_password_was_printed_is_led_to_a_new_one(mine: Client, address: str, method: str) -> None:
    User.objects.update(must_change_password=True, is_staff=True)
    response = getattr(mine, method)(address)
    if address == "/security/password/":
        assert response.status_code != 302
    else:
        assert (response.status_code, response.headers["Location"]) == (302, "/security/password/")


@pytest.mark.parametrize("address", KEY_PAGES)
@pytest.mark.parametrize("method", ["get", "post"])
def test_a_ram_user_is_told_why_not(owner: Enrolled, ram_user: Enrolled, address: str, method: str) -> None:
    key, secret = ApiKey.objects.issue(owner, uuid.uuid4())
    response = getattr(verified_client(ram_user), method)(address.replace(str(KEY), str(key.id)))
    assert response.status_code == 403
    page = response.content.decode()
    assert "Only the root account can manage API keys" in page and "owner" in page
    assert secret not in page and key.hint not in page and str(key.id) not in page


@pytest.mark.parametrize("address", [address for address in KEY_PAGES if str(KEY) in address])
@pytest.mark.parametrize("method", ["get", "post"])
def test_another_accounts_key_is_not_there(owner: Enrolled, other: Enrolled, address: str, method: str) -> None:
    key, secret = ApiKey.objects.issue(owner, uuid.uuid4())
    data = {"otp_token": other.spare_codes[0]}
    response = getattr(verified_client(other), method)(address.replace(str(KEY), str(key.id)), data)
    assert response.status_code == 404
    assert key.hint not in response.content.decode()
    assert ApiKey.objects.get(pk=key.pk).reveal() == secret


def test_an_id_of_no_key_and_no_id_are_not_there(mine: Client) -> None:
    for address in (f"/api-keys/{KEY}/view/", "/api-keys//view/", "/api-keys/1/delete/", "/api-keys/%00/view/"):
        response = mine.get(address)
        assert response.status_code == 404
        assert "This page does not exist" in response.content.decode()


@pytest.mark.parametrize(
    ("method", "address"),
    [
        ("get", "/api-keys/create/"),
        ("post", "/api-keys/"),
        ("put", f"/api-keys/{KEY}/view/"),
        ("get", "/logout/"),
        ("post", "/"),
        ("post", "/security/"),
        ("post", "/healthz"),
    ],
)
def test_the_wrong_method_is_answered_in_the_consoles_clothes(mine: Client, method: str, address: str) -> None:
    response = getattr(mine, method)(address)
    assert response.status_code == 405
    assert response.headers["Allow"]
    assert "This page cannot be opened directly." in response.content.decode()


@pytest.mark.parametrize(
    "address", [address for address in addresses(KEY) if address not in ("/leaked-keys", "/csp-reports")]
)
def test_nothing_is_posted_without_a_token(owner: Enrolled, address: str) -> None:
    browser = verified_client(owner, enforce_csrf_checks=True)
    before = Authenticator.objects.count(), ApiKey.objects.count(), User.objects.count()
    response = browser.post(address, {"otp_token": owner.spare_codes[0], "request_id": str(KEY)})
    assert response.status_code in {403, 405}
    if response.status_code == 403:
        assert "This form has expired" in response.content.decode()
    assert before == (Authenticator.objects.count(), ApiKey.objects.count(), User.objects.count())


@pytest.mark.parametrize("address", [*addresses(KEY), "/admin/", "/nothing-here"])
def test_every_answer_is_kept_out_of_caches_and_frames_and_runs_no_foreign_script(mine: Client, address: str) -> None:
    response = mine.get(address)
    headers = response.headers
    assert "no-store" in headers["Cache-Control"]
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["X-Frame-Options"] == "DENY"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    for element in html.select(response.content, "*"):
        assert element.name != "style" and (element.name != "script" or element.get("src")), element
        assert not [name for name in element.attrs if name == "style" or name.startswith("on")], element


def test_operators_have_their_site_and_others_not(owner: Enrolled, mine: Client) -> None:
    assert mine.get("/admin/").status_code == 302
    refused = mine.get("/admin/", follow=True)
    assert refused.status_code == 403
    assert "Only operators can open this site." in refused.content.decode()
    User.objects.filter(pk=owner.pk).update(is_staff=True, is_superuser=True)
    assert mine.get("/admin/").status_code == 200
    page = mine.get(f"/admin/console/user/{owner.pk}/change/")
    assert page.status_code == 200
    asked = mine.get("/admin/console/user/?password__startswith=md5")
    assert asked.status_code == 400
