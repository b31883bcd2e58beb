"""The usage page, its chart and its CSV."""

import csv
import uuid
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.test import Client
from hypothesis import given, strategies
from pytest_django import Settings

from apikeys.models import ApiKey, Usage
from console.ledger.chain import csv_safe
from tests.support import filling, html
from tests.support.world import Enrolled, verified_client

NOON = datetime(2026, 6, 10, 12, 30, tzinfo=UTC)


def key_with_calls(owner: Enrolled, *calls: tuple[datetime, int, int]) -> ApiKey:
    key, _ = ApiKey.objects.issue(owner, uuid.uuid4())
    for hour, accepted, refused in calls:
        Usage.objects.create(key=key, hour=hour, accepted=accepted, refused=refused)
    return key


def hours_ago(hours: int) -> datetime:
    return NOON.replace(minute=0) - timedelta(hours=hours)


@pytest.mark.django_db
class TestUsage:
    @pytest.fixture(autouse=True)
    def noon(self) -> object:
        with time_machine.travel(NOON, tick=False):
            yield

    def test_it_sums_accepted_and_refused_by_period(self, owner: Enrolled) -> None:
        key_with_calls(owner, (hours_ago(1), 5, 1), (hours_ago(13), 7, 0), (hours_ago(24 * 20), 100, 2))
        key_with_calls(owner, (hours_ago(24 * 80), 1000, 0))
        browser = verified_client(owner)
        for days, accepted, refused in ((1, 5, 1), (7, 12, 1), (30, 112, 3), (90, 1112, 3)):
            page = browser.get(f"/api-keys/usage/?days={days}").content
            assert f"{accepted} accepted, {refused} refused" in html.text(page, "#chart-title")
            assert html.select(page, ".chart rect.accepted")

    def test_a_chart_of_nothing_says_so(self, mine: Client) -> None:
        page = mine.get("/api-keys/usage/").content.decode()
        assert "there were no calls in this period" in page and "0 accepted, 0 refused" in page

    def test_one_key_alone_and_nobody_elses(self, owner: Enrolled, other: Enrolled) -> None:
        key = key_with_calls(owner, (hours_ago(1), 5, 0))
        key_with_calls(owner, (hours_ago(1), 50, 0))
        foreign = key_with_calls(other, (hours_ago(1), 500, 0))
        browser = verified_client(owner)
        assert "55 accepted" in browser.get("/api-keys/usage/").content.decode()
        page = browser.get(f"/api-keys/usage/?key={key.id}").content.decode()
        assert f"Usage of {key.hint}" in page and "5 accepted" in page
        assert browser.get(f"/api-keys/usage/?key={foreign.id}").status_code == 404

    def test_pages_of_50_that_keep_the_days(self, owner: Enrolled) -> None:
        keys = filling.keys(owner, 120)
        filling.usage(keys, 1)
        browser = verified_client(owner)
        pages = [browser.get("/api-keys/usage/", {"days": 7, "page": n}).content for n in (1, 2, 3, 4)]
        shown = [[str(row["data-key-id"]) for row in html.select(page, "#usage tr[data-key-id]")] for page in pages]
        ids = [str(key.pk) for key in keys]
        assert shown == [ids[:50], ids[50:100], ids[100:], ids[100:]]
        assert [link["href"] for link in html.select(pages[1], ".pages a")] == ["?days=7&page=1", "?days=7&page=3"]
        assert "120 accepted" in html.text(pages[0], "#chart-title")

    def test_one_key_is_listed_alone_and_so_is_its_csv(self, owner: Enrolled) -> None:
        keys = filling.keys(owner, 60)
        page = verified_client(owner).get(f"/api-keys/usage/?days=7&page=2&key={keys[0].pk}").content
        assert html.texts(page, "#usage tbody th") == [keys[0].hint]
        assert html.attribute(page, "[href*=csv]", "href") == f"/api-keys/usage/csv/?days=7&key={keys[0].pk}"

    @pytest.mark.parametrize("query", ["days=0", "days=x", "days=\0", "key=1", "days=7&days=x", "key=%00"])
    def test_a_wrong_question_gets_todays_of_all(self, mine: Client, query: str) -> None:
        for address in ("/api-keys/usage/", "/api-keys/usage/csv/"):
            assert mine.get(f"{address}?{query}").status_code == 200

    def test_deleted_keys_keep_their_rows(self, owner: Enrolled) -> None:
        key = key_with_calls(owner, (hours_ago(1), 5, 3))
        unused = key_with_calls(owner)
        key.revoke()
        unused.revoke()
        browser = verified_client(owner)
        page = browser.get("/api-keys/usage/").content
        assert html.texts(page, "#usage tbody th") == [f"{key.hint} deleted 2026-06-10"]
        (row,) = csv.DictReader(browser.get("/api-keys/usage/csv/").content.decode("utf-8-sig").splitlines())
        assert row == {
            "hour_utc": "2026-06-10T11:00Z",
            "api_key_id": str(key.id),
            "api_key": key.hint,
            "accepted": "5",
            "refused": "3",
            "deleted_at_utc": "2026-06-10T12:30:00Z",
        }

    def test_the_csv_has_the_chosen_days_as_a_file(self, owner: Enrolled) -> None:
        key_with_calls(owner, (hours_ago(1), 5, 3), (hours_ago(24 * 3), 1, 0))
        answer = verified_client(owner).get("/api-keys/usage/csv/?days=7")
        assert answer.headers["Content-Disposition"] == 'attachment; filename="usage-7-days.csv"'
        assert len(answer.content.decode().splitlines()) == 3

    def test_excel_knows_the_characters_of_the_csv_by_its_byte_order_mark(self, owner: Enrolled) -> None:
        key = key_with_calls(owner, (hours_ago(1), 5, 3))
        content = verified_client(owner).get("/api-keys/usage/csv/").content
        assert content.startswith(b"\xef\xbb\xbfhour_utc,") and f",{key.hint},".encode() in content

    @pytest.mark.parametrize(
        ("zone", "bars"), [("UTC", 24), ("Asia/Kolkata", 24), ("Asia/Kathmandu", 24), ("America/New_York", 24)]
    )
    def test_today_has_every_hour_of_the_zone(self, owner: Enrolled, settings: Settings, zone: str, bars: int) -> None:
        settings.TIME_ZONE = zone
        key_with_calls(owner, (hours_ago(0), 5, 3))
        page = verified_client(owner).get("/api-keys/usage/")
        assert len(page.context["chart"].bars) == bars
        assert "5 accepted, 3 refused" in page.content.decode()

    def test_who_deletes_a_key_sees_what_will_break(self, owner: Enrolled) -> None:
        calls = [(hours_ago(0), 2, 1), (hours_ago(24), 3, 0), (hours_ago(25), 100, 0), (hours_ago(24 * 8), 7, 0)]
        key = key_with_calls(owner, *calls)
        for hour, *_ in calls:
            age = round((NOON - hour).total_seconds() / 3600)
            key.usage.filter(hour=hour).update(last_call_at=hour, last_call_from=f"192.0.2.{min(age, 200)}")
        page = verified_client(owner).get(f"/api-keys/{key.pk}/delete/").content
        facts = dict(zip(html.texts(page, "dialog dt"), html.texts(page, "dialog dd"), strict=True))
        assert facts == {
            "Last call": "2026-06-10 12:00 UTC",
            "Calls in the last 24 hours": "5",  # with all of the hour that began before them
            "Callers in the last 7 days": "192.0.2.0, 192.0.2.24, 192.0.2.26"
            " Only the last caller in each hour is recorded.",
        }

    @pytest.mark.parametrize(("callers", "rest"), [(0, "None"), (5, "192.0.2.4"), (6, "192.0.2.4, and 1 more")])
    def test_of_many_callers_the_latest_five_are_named(self, owner: Enrolled, callers: int, rest: str) -> None:
        key = key_with_calls(owner, *((hours_ago(n), 1, 0) for n in range(callers)))
        for n in range(callers):
            key.usage.filter(hour=hours_ago(n)).update(last_call_at=hours_ago(n), last_call_from=f"192.0.2.{n}")
        named = ", ".join([*(f"192.0.2.{n}" for n in range(min(callers, 4))), rest])
        if callers:
            named += " Only the last caller in each hour is recorded."
        page = verified_client(owner).get(f"/api-keys/{key.pk}/delete/").content
        assert html.texts(page, "dialog dd")[-1] == named

    def test_calls_that_a_deleted_key_still_gets_are_listed(self, owner: Enrolled) -> None:
        key = key_with_calls(owner, (hours_ago(2), 9, 4), (hours_ago(1), 0, 1))
        key.revoke()
        page = verified_client(owner).get("/api-keys/").content
        assert html.texts(page, "#deleted-keys tbody th") == [key.hint]
        assert html.texts(page, "#deleted-keys tbody td")[1:] == ["5", "2026-06-10 11:00 UTC"]

    def test_the_list_shows_the_last_call(self, owner: Enrolled) -> None:
        key = key_with_calls(owner)
        browser = verified_client(owner)
        assert "Never" in browser.get("/api-keys/").content.decode()
        Usage.objects.create(
            key=key, hour=hours_ago(0), accepted=1, refused=0, last_call_at=NOON, last_call_from="203.0.113.7"
        )
        page = browser.get("/api-keys/").content.decode()
        assert "2026-06-10 12:30 UTC" in page and "203.0.113.7" in page


@given(strategies.text())
def test_no_cell_is_a_formula(text: str) -> None:
    shown = csv_safe(text)
    assert shown[:1] not in tuple("=+-@\t\r\n＝＋－＠")
    assert shown in (text, f"'{text}")


@pytest.mark.parametrize("text", ["=1+1", "@SUM(A1)", "-2", "+3", "\t=1"])
def test_a_formula_is_text(text: str) -> None:
    assert csv_safe(text) == f"'{text}"
