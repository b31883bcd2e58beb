"""No way of Django's deletes a key, a row of a ledger or an account. A key is revoked, which keeps its row."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.sites import site
from django.db import transaction
from django.db.models import Model
from django.db.models.deletion import ProtectedError
from django.test import RequestFactory

from apikeys.models import ApiKey
from console.ledger.models import Entry
from console.models import User
from tests.support import html
from tests.support.world import World

pytestmark = pytest.mark.django_db

KEPT = {"key": ApiKey, "row": Entry, "account": User}


def by_admin(world: World, model: type[Model]) -> None:
    request = RequestFactory().post("/", {"post": "yes"})
    request.user = world.owner
    site._registry.get(model, site._registry[User]).delete_queryset(request, model._default_manager.all())


WAYS: dict[str, Callable[[World, type[Any]], object]] = {
    "an instance": lambda world, model: model.objects.all()[0].delete(),
    "a queryset": lambda world, model: model.objects.all().delete(),
    "a filtered queryset": lambda world, model: model.objects.filter(pk=model.objects.all()[0].pk).delete(),
    "the base manager": lambda world, model: model._base_manager.all().delete(),
    "the admin site": by_admin,
}
RELATED: dict[str, Callable[[World], object]] = {
    "the keys of an account": lambda world: world.owner.api_keys.all().delete(),
    "the ledger of an account": lambda world: world.owner.ledger.all().delete(),
    "the account of a key": lambda world: world.key.account.delete(),
}


def counts() -> list[int]:
    return [model._default_manager.count() for model in KEPT.values()]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kept", KEPT)
def test_no_way_of_django_deletes_it(world: World, kept: str, way: str) -> None:
    before = counts()
    with pytest.raises(ProtectedError), transaction.atomic():
        WAYS[way](world, KEPT[kept])
    assert counts() == before


@pytest.mark.parametrize("way", RELATED)
def test_nor_does_a_relation(world: World, way: str) -> None:
    before = counts()
    with pytest.raises(ProtectedError), transaction.atomic():
        RELATED[way](world)
    assert counts() == before


def test_the_admin_site_offers_no_deletion(world: World) -> None:
    User.objects.filter(pk=world.owner.pk).update(is_staff=True)
    for path in ("/admin/apikeys/apikey/", "/admin/console/user/"):
        actions = [option["value"] for option in html.select(world.browser.get(path).content, "[name=action] option")]
        assert len(actions) > 1 and "delete_selected" not in actions


def test_revoking_keeps_the_row_and_its_place_in_the_quota(world: World) -> None:
    before = ApiKey.objects.quota(world.owner)
    world.key.revoke()
    after = ApiKey.objects.quota(world.owner)
    assert ApiKey.objects.filter(pk=world.key.pk).exists()
    assert (after.active, after.created_today) == (before.active - 1, before.created_today)
