"""The Activity page: an account's own rows of the ledger, by kind and key."""

import pytest
from django.test import Client
from pytest_django import Settings

from console.factors.models import RecoveryCodes
from console.ledger.models import Entry
from console.proxies import TrustedProxies
from tests.support import html
from tests.support.actions import create
from tests.support.person import PASSWORD
from tests.support.world import Enrolled, World, verified_client

pytestmark = pytest.mark.django_db


def test_it_shows_the_accounts_own_rows(world: World, other: Enrolled) -> None:
    page = world.browser.get("/activity/").content
    shown = [int(str(row["data-number"])) for row in html.select(page, "#activity tr[data-number]")]
    assert shown == [*Entry.objects.filter(account=world.owner).values_list("number", flat=True)]
    assert world.key.hint in html.text(page, "#activity")
    assert world.key.hint not in verified_client(other).get("/activity/").content.decode()


def test_filters(world: World) -> None:
    create(world)
    of_kind = world.browser.get("/activity/", {"kind": "key.created"})
    assert len(of_kind.context["object_list"]) == 2
    of_key = world.browser.get("/activity/", {"key": str(world.key.pk)})
    assert [entry.key_id for entry in of_key.context["object_list"]] == [world.key.pk]
    assert len(world.browser.get("/activity/?kind=nonsense&key=nonsense").context["object_list"]) > 2
    empty = world.browser.get("/activity/", {"kind": "user.locked_out"}).content.decode()
    assert "No events match the filters." in empty


def test_pages_keep_the_filter(world: World) -> None:
    for _ in range(60):
        RecoveryCodes.issue(world.owner)
    first = world.browser.get("/activity/?kind=recovery_codes.created").content
    assert html.texts(first, ".pages a") == ["Older"]
    assert html.attribute(first, ".pages a", "href") == "?kind=recovery_codes.created&page=2"
    assert "Newer" in world.browser.get("/activity/?kind=recovery_codes.created&page=2").content.decode()
    assert world.browser.get("/activity/?page=99").status_code == 404


def test_a_ram_user_is_told_why_not(ram_user: Enrolled) -> None:
    for address in ("/activity/", "/activity/csv/"):
        response = verified_client(ram_user).get(address)
        assert response.status_code == 403
        assert "ask the owner of the root account owner" in response.content.decode()


def test_what_a_browser_says_of_itself_is_text(world: World) -> None:
    evil = Client(headers={"User-Agent": "<script>alert(1)</script>"})
    for password in ("wrong", PASSWORD):
        evil.post("/login/", {"username": "owner", "password": password})
    for address in ("/activity/", "/security/sessions/"):
        page = world.browser.get(address).content
        assert "<script>alert(1)</script>" in html.text(page, "main"), address
        assert not html.select(page, "main script"), address


@pytest.mark.parametrize(("proxies", "address"), [("", "192.0.2.1"), ("192.0.2.1", "203.0.113.7")])
def test_the_address_is_what_a_trusted_proxy_says(world: World, settings: Settings, proxies: str, address: str) -> None:
    settings.TRUSTED_PROXIES = TrustedProxies.parse(proxies)
    world.browser.defaults |= {"REMOTE_ADDR": "192.0.2.1", "HTTP_X_FORWARDED_FOR": "198.51.100.1, 203.0.113.7"}
    create(world)
    assert Entry.objects.filter(account=world.owner)[0].address == address
