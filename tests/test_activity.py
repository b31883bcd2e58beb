"""The Activity page: an account's own rows of the ledger, by kind and key."""

import pytest
from django.test import Client
from pytest_django import Settings

from console.factors.models import RecoveryCodes
from console.ledger.models import Entry
from console.proxies import TrustedProxies
from tests.support import filling, html
from tests.support.actions import create
from tests.support.person import PASSWORD
from tests.support.world import Enrolled, World, verified_client

pytestmark = pytest.mark.django_db


def test_it_shows_the_accounts_own_rows(world: World, other: Enrolled) -> None:
    page = world.browser.get("/activity/").content
    assert numbers(page) == recorded(world)
    assert world.key.hint in html.text(page, "#activity")
    assert world.key.hint not in verified_client(other).get("/activity/").content.decode()


def numbers(page: bytes) -> list[int]:
    return [int(str(row["data-number"])) for row in html.select(page, "#activity tr[data-number]")]


def recorded(world: World, **fields: object) -> list[int]:
    return [*Entry.objects.filter(account=world.owner, **fields).values_list("number", flat=True)]


def test_filters(world: World) -> None:
    create(world)
    browser = world.browser
    assert numbers(browser.get("/activity/", {"kind": "key.created"}).content) == recorded(world, kind="key.created")
    assert numbers(browser.get("/activity/", {"key": str(world.key.pk)}).content) == recorded(
        world, key_id=world.key.pk
    )
    assert numbers(browser.get("/activity/?kind=nonsense&key=nonsense").content) == recorded(world)
    page = browser.get("/activity/", {"kind": "user.locked_out"}).content
    assert "No events match the filters." in html.text(page, "#activity")
    assert "/activity/" in [link["href"] for link in html.select(page, ".filter a")]


@pytest.mark.parametrize("part", [slice(None), slice(3, 7), slice(-4, None)])
def test_a_key_is_found_by_any_part_of_its_hint(world: World, part: slice) -> None:
    create(world)
    for hint in (world.key.hint, world.key.hint.replace("…", "...").lower()):
        page = world.browser.get("/activity/", {"q": hint[part]}).content
        assert {*recorded(world, key=world.key.hint)} <= {*numbers(page)} < {*recorded(world)}
    for nothing in ("sk-%", "nothing like it", "x" * 10_000):
        assert numbers(world.browser.get("/activity/", {"q": nothing}).content) == []


def test_the_hint_in_a_row_leads_to_all_of_its_key(world: World) -> None:
    create(world)
    links = html.select(world.browser.get("/activity/").content, "#activity a")
    link = next(link for link in links if html.words(link) == world.key.hint)
    page = world.browser.get(f"/activity/{link['href']}").content
    assert numbers(page) == recorded(world, key_id=world.key.pk)
    assert html.attribute(page, ".filter [name=q]", "value") == world.key.hint


def test_pages_and_download_keep_the_filter(world: World) -> None:
    for _ in range(60):
        RecoveryCodes.issue(world.owner)
    query = "?kind=recovery_codes.created&q="
    first = world.browser.get(f"/activity/{query}").content
    assert [(html.words(link), link["href"]) for link in html.select(first, ".pages a")] == [
        ("Next", f"{query}&page=2")
    ]
    second = world.browser.get(f"/activity/{query}&page=2").content
    assert numbers(first) + numbers(second) == recorded(world, kind="recovery_codes.created")
    assert html.attribute(second, ".pages a", "href") == f"{query}&page=1"
    assert html.attribute(second, ".filter a[href*=csv]", "href") == f"/activity/csv/{query}"
    assert numbers(world.browser.get(f"/activity/{query}&page=99").content) == numbers(second)


def test_a_year_of_ten_keys_a_day_is_a_small_page(world: World) -> None:
    filling.ledger(world.owner, 3650, filling.keys(world.owner, 3650, deleted=True))
    page = world.browser.get("/activity/").content
    assert len(numbers(page)) == 50 and len(page) < 40_000


def test_a_ram_user_is_told_why_not(ram_user: Enrolled) -> None:
    for address in ("/activity/", "/activity/csv/"):
        response = verified_client(ram_user).get(address)
        assert response.status_code == 403
        assert "Contact the owner of the root account owner" in response.content.decode()


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
