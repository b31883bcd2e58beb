"""The list of keys, however many there are: pages, search, and dialogs that lead back to where one was."""

from collections.abc import Iterator

import pytest
from django.test import Client
from pytest_django import Settings

from apikeys.models import ApiKey
from tests.support import filling, html
from tests.support.world import Enrolled

pytestmark = pytest.mark.django_db


@pytest.fixture
def keys(owner: Enrolled, settings: Settings) -> list[ApiKey]:
    """The newest first."""
    settings.API_KEYS_MAX_ACTIVE = 5000
    return filling.keys(owner, 120)


def shown(page: bytes) -> list[str]:
    return [str(row["data-key-id"]) for row in html.select(page, "#api-keys tr[data-key-id]")]


def links(page: bytes) -> dict[str, str]:
    return {html.words(link): str(link["href"]) for link in html.select(page, ".pages a")}


def ids(keys: list[ApiKey]) -> list[str]:
    return [str(key.pk) for key in keys]


def test_pages_of_50_the_newest_first(mine: Client, keys: list[ApiKey]) -> None:
    first, second, third = (mine.get("/api-keys/", {"page": n}).content for n in (1, 2, 3))
    assert [shown(page) for page in (first, second, third)] == [ids(keys[:50]), ids(keys[50:100]), ids(keys[100:])]
    assert html.text(second, ".pages span") == "Page 2 of 3"
    assert links(first) == {"Next": "/api-keys/?page=2"}
    assert links(second) == {"Previous": "/api-keys/?page=1", "Next": "/api-keys/?page=3"}
    assert "120 of 5000" in html.text(second, ".quota")


@pytest.mark.parametrize(("page", "number"), [("", 1), ("x", 1), ("\0", 1), ("-1", 3), ("4", 3), ("9" * 30, 3)])
def test_a_page_past_the_end_is_the_last(mine: Client, keys: list[ApiKey], page: str, number: int) -> None:
    found = mine.get("/api-keys/", {"page": page})
    assert found.status_code == 200 and html.text(found.content, ".pages span") == f"Page {number} of 3"


def test_a_few_keys_need_no_pages_and_no_search(mine: Client, owner: Enrolled) -> None:
    filling.keys(owner, 3)
    page = mine.get("/api-keys/").content
    assert len(shown(page)) == 3
    assert not html.select(page, ".pages") and not html.select(page, "[name=q]")


def test_1501_keys_are_a_page_of_50(mine: Client, owner: Enrolled, keys: list[ApiKey]) -> None:
    filling.usage(filling.keys(owner, 1381), 1)
    page = mine.get("/api-keys/").content
    assert len(shown(page)) == 50 and len(page) < 60_000
    assert html.text(page, ".pages span") == "Page 1 of 31"


class TestSearch:
    @pytest.mark.parametrize("part", [slice(None), slice(3, 7), slice(-4, None), slice(2, 9)])
    def test_by_any_part_of_the_hint(self, mine: Client, keys: list[ApiKey], part: slice) -> None:
        found = shown(mine.get("/api-keys/", {"q": f" {keys[70].hint[part]} "}).content)
        assert str(keys[70].pk) in found and len(found) < 10

    def test_three_dots_are_the_hints_and_case_does_not_matter(self, mine: Client, keys: list[ApiKey]) -> None:
        typed = keys[70].hint.replace("…", "...").upper()
        assert shown(mine.get("/api-keys/", {"q": typed}).content) == ids([keys[70]])

    def test_the_pages_keep_it(self, mine: Client, keys: list[ApiKey]) -> None:
        page = mine.get("/api-keys/", {"q": "sk-"}).content
        assert links(page) == {"Next": "/api-keys/?q=sk-&page=2"}
        assert html.attribute(page, "[name=q]", "value") == "sk-"

    @pytest.mark.parametrize("asked", ["nothing-like-it", "%", "_", "'", "\\", "<b>", "x" * 10_000, "é\0\x1b"])
    def test_what_matches_nothing_says_so(self, mine: Client, keys: list[ApiKey], asked: str) -> None:
        page = mine.get("/api-keys/", {"q": asked}).content
        assert html.text(page, "#api-keys tbody").startswith("No API keys match")
        assert html.attribute(page, ".filter a", "href") == "/api-keys/"
        assert "120 of 5000" in html.text(page, ".quota")

    def test_never_in_what_is_anothers_or_deleted(self, mine: Client, keys: list[ApiKey], other: Enrolled) -> None:
        theirs = filling.keys(other, 1)[0]
        keys[0].revoke()
        for key in (theirs, keys[0]):
            assert not shown(mine.get("/api-keys/", {"q": key.hint}).content)


class TestDialogs:
    PLACE = "?q=sk-&page=2"

    def test_they_show_the_page_they_were_opened_on(self, mine: Client, keys: list[ApiKey]) -> None:
        listed = mine.get(f"/api-keys/{self.PLACE}").content
        for act in ("View", "Delete"):
            link = html.attribute(listed, f"[aria-label='{act} {keys[60].hint}']", "href")
            dialog = mine.get(link).content
            assert shown(dialog) == ids(keys[50:100])
            assert links(dialog) == links(listed)
            close = {str(field["name"]): str(field["value"]) for field in html.select(dialog, "#close input")}
            assert close == {"q": "sk-", "page": "2"}

    def test_a_code_leads_back_there(self, mine: Client, keys: list[ApiKey], codes: Iterator[str]) -> None:
        confirm = mine.get(f"/api-keys/{keys[60].pk}/delete/{self.PLACE}").content
        form = {str(field["name"]): str(field["value"]) for field in html.select(confirm, "dialog input")}
        assert form == {"q": "sk-", "page": "2", "confirmed": "1"}
        verify = mine.get(f"/api-keys/{keys[60].pk}/delete/", form).content
        address = html.attribute(verify, "dialog form[method=post]", "action")
        wrong = mine.post(address, {"otp_token": "000000"})
        assert wrong.status_code == 422 and shown(wrong.content) == ids(keys[50:100])
        deleted = mine.post(address, {"otp_token": next(codes)}, follow=True)
        assert deleted.redirect_chain == [(f"/api-keys/{self.PLACE}", 302)]
        assert shown(deleted.content) == ids([*keys[50:60], *keys[61:101]])

    def test_a_viewed_key_is_before_the_page_it_was_opened_on(
        self, owner: Enrolled, mine: Client, keys: list[ApiKey], codes: Iterator[str], settings: Settings
    ) -> None:
        sealed = settings.VAULT.seal(keys[60].place, b"a secret")
        digest = settings.VAULT.digests("api-key", "a secret")[0]
        ApiKey.objects.filter(pk=keys[60].pk).update(sealed_secret=sealed, digest=digest)
        address = html.attribute(mine.get(f"/api-keys/{keys[60].pk}/view/?page=2").content, "dialog form", "action")
        page = mine.post(address, {"otp_token": next(codes)}).content
        assert html.attribute(page, "#api-key-value", "value") == "a secret"
        assert html.attribute(page, ".copyable", "data-url") == "/api-keys/?page=2"

    def test_deleting_all_of_the_last_page_leads_to_the_one_before(
        self, mine: Client, owner: Enrolled, keys: list[ApiKey], codes: Iterator[str]
    ) -> None:
        last = filling.keys(owner, 31, before=keys[-1].created_at)[-1]
        page = mine.post(f"/api-keys/{last.pk}/delete/?page=4", {"otp_token": next(codes)}, follow=True).content
        assert html.text(page, ".pages span") == "Page 3 of 3"
