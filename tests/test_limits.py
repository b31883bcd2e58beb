"""Three active keys, ten creations a day: the boundary, the day's edges, and many at once."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone
from pytest_django import Settings

from apikeys.keys.limits import day_of
from apikeys.models import ApiKey
from console.models import User
from console.operators import set_active
from tests.support.person import Person, fields
from tests.support.servers import running
from tests.support.world import Enrolled


def issue(account: Enrolled) -> ApiKey:
    return ApiKey.objects.issue(account, uuid.uuid4())[0]


def use_up_the_day(account: Enrolled) -> None:
    for _ in range(10):
        issue(account).revoke()
    with pytest.raises(ValidationError, match="You have created 10 of 10 API keys today"):
        issue(account)


@pytest.mark.django_db
class TestBoundary:
    def test_the_third_key_is_made_and_the_fourth_is_not(self, owner: Enrolled, other: Enrolled) -> None:
        keys = [issue(owner) for _ in range(3)]
        with pytest.raises(ValidationError, match="You have 3 of 3 API keys"):
            issue(owner)
        issue(other)
        keys[0].revoke()
        issue(owner)

    def test_the_tenth_creation_is_made_and_the_eleventh_is_not(self, owner: Enrolled, other: Enrolled) -> None:
        use_up_the_day(owner)
        assert ApiKey.objects.quota(owner).created_left == 0
        issue(other)

    def test_the_limits_are_settings(self, owner: Enrolled, settings: Settings) -> None:
        settings.API_KEYS_MAX_ACTIVE = 1
        issue(owner)
        with pytest.raises(ValidationError, match="1 of 1"):
            issue(owner)

    @pytest.mark.parametrize("own", [0, 1, 5])
    def test_an_account_has_limits_of_its_own(self, owner: Enrolled, other: Enrolled, own: int) -> None:
        User.objects.filter(pk=owner.pk).update(max_active_keys=own, max_keys_a_day=own + 1)
        for _ in range(own):
            issue(owner)
        with pytest.raises(ValidationError, match=rf"You have {own} of {own} API keys?\. To create a new one"):
            issue(owner)
        mine = ApiKey.objects.quota(User.objects.get(pk=owner.pk))
        assert (mine.active, mine.created_today, mine.max_created, mine.created_left) == (own, own, own + 1, 1)
        theirs = ApiKey.objects.quota(other)
        assert (theirs.max_active, theirs.max_created) == (3, 10)

    def test_who_can_have_no_key_is_told_why(self, ram_user: Enrolled, other: Enrolled) -> None:
        set_active(other, False)
        for user, why in (
            (ram_user, "Only a root account can have API keys."),
            (other, "This account is disabled. Contact your operator."),
        ):
            with pytest.raises(ValidationError) as refused:
                issue(user)
            assert refused.value.messages == [why]

    def test_every_path_goes_through_the_rule(self, owner: Enrolled) -> None:
        for _ in range(3):
            issue(owner)
        with pytest.raises(ValidationError):
            ApiKey(account=owner, request_id=uuid.uuid4(), hint="x", digest=b"x", sealed_secret=b"x").save()
        kept = ApiKey.objects.first()
        assert kept
        kept.full_clean()
        kept.save()

    def test_what_would_be_another_keys_twin_is_refused_by_the_database(self, owner: Enrolled) -> None:
        """Asking it before would be no faster and prove nothing."""
        key = issue(owner)
        for same in ({"id": key.id}, {"digest": key.digest}):
            values = {"id": uuid.uuid4(), "digest": b"x", "sealed_secret": b"x", "request_id": uuid.uuid4()} | same
            with pytest.raises(IntegrityError), transaction.atomic():
                ApiKey(account=owner, hint="x", **values).save()
        assert ApiKey.objects.get() == key


@pytest.mark.django_db
class TestDay:
    @pytest.mark.parametrize(
        ("zone", "day", "hours"),
        [
            ("UTC", "2026-06-01", 24),
            ("Europe/Berlin", "2026-03-29", 23),
            ("Europe/Berlin", "2026-10-25", 25),
            ("Africa/Cairo", "2026-04-24", 23),  # its midnight does not exist: the day begins at 01:00
            ("Asia/Kolkata", "2026-10-25", 24),
        ],
    )
    def test_creations_come_back_at_midnight_there(
        self, owner: Enrolled, settings: Settings, zone: str, day: str, hours: int
    ) -> None:
        settings.TIME_ZONE = zone
        noon = datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=timezone.get_default_timezone())
        start, end = day_of(noon)
        assert (end - start) == timedelta(hours=hours)
        assert start.tzinfo == end.tzinfo == UTC
        with time_machine.travel(start - timedelta(seconds=1), tick=False) as clock:
            issue(owner)
            clock.move_to(start)
            use_up_the_day(owner)
            clock.move_to(end - timedelta(seconds=1))
            with pytest.raises(ValidationError):
                issue(owner)
            clock.move_to(end)
            assert ApiKey.objects.quota(owner).created_left == 10
            issue(owner)
            clock.move_to(end - timedelta(seconds=1))
            assert ApiKey.objects.quota(owner).created_today == 10

    @pytest.mark.parametrize(
        ("zone", "now", "said"),
        [
            ("UTC", "2026-06-01T20:58", "at 00:00 UTC, in 3 hours"),
            ("UTC", "2026-06-01T23:35", "at 00:00 UTC, in 25 minutes"),
            ("Europe/Berlin", "2026-06-01T12:00", "at 00:00 CEST, in 10 hours"),
            ("Africa/Cairo", "2026-04-23T12:00", "at 01:00 EEST, in 10 hours"),
        ],
    )
    def test_the_page_says_when(self, owner: Enrolled, settings: Settings, zone: str, now: str, said: str) -> None:
        settings.TIME_ZONE = zone
        with time_machine.travel(datetime.fromisoformat(now).replace(tzinfo=UTC), tick=False):
            assert ApiKey.objects.quota(owner).resets == said


@pytest.mark.no_mutants
def test_thirty_two_creations_at_once_make_three_keys(tmp_path: Path) -> None:
    """Over HTTP, in two worker processes, on the database that the tests run on."""
    with running(tmp_path / "data", CONSOLE_WORKERS="2") as server, Person(server.address).log_on() as owner:
        page = fields(owner.http.get("/api-keys/").text)

        def create(_: int) -> tuple[int, str]:
            form = page | {"request_id": str(uuid.uuid4())}
            response = owner.http.post("/api-keys/create/", data=form)
            return response.status_code, response.text

        with ThreadPoolExecutor(32) as threads:
            answers = list(threads.map(create, range(32)))
        assert sorted(status for status, _ in answers) == [200] * 3 + [409] * 29
        assert all("3 of 3 API keys" in page for status, page in answers if status == 409)
        assert len(owner.key_ids()) == 3
