"""A key appears in the answers to the two POSTs that earn it, and nowhere else."""

import logging
import uuid
from collections.abc import Iterator

import pytest
from django.db import connection
from django.test import Client

from console.models import User
from console.sessions.store import Session
from tests.support.addresses import addresses
from tests.support.world import Enrolled


def database_dump() -> bytes:
    """Every value of every table."""
    dump = b""
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names():
            cursor.execute(f'SELECT * FROM "{table}"')
            for row in cursor.fetchall():
                for value in row:
                    dump += bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
    return dump


@pytest.mark.django_db
def test_the_secret_appears_exactly_where_it_is_earned(
    owner: Enrolled, mine: Client, codes: Iterator[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    User.objects.filter(pk=owner.pk).update(is_staff=True, is_superuser=True)
    created = mine.post("/api-keys/create/", {"request_id": uuid.uuid4()})
    secret, key = created.context["secret"], created.context["key"]
    viewed = mine.post(f"/api-keys/{key.id}/view/", {"otp_token": next(codes)})
    for response in (created, viewed):
        assert response.content.decode().count(secret) == 1
        assert secret not in str(response.headers) + str(response.cookies)

    random_part = secret[3:-6]
    elsewhere = [mine.get(address) for address in [*addresses(key.id), "/admin/", "/admin/console/user/"]]
    elsewhere.append(mine.post(f"/api-keys/{key.id}/view/", {"otp_token": "000000"}))
    elsewhere.append(mine.get(f"/api-keys/{key.id}/delete/?confirmed=1"))
    elsewhere.append(mine.post(f"/api-keys/{key.id}/delete/", {"otp_token": next(codes)}, follow=True))
    assert len(elsewhere) > 15
    for response in elsewhere:
        assert random_part not in response.content.decode() + str(response.headers)
    assert random_part.encode() not in database_dump()
    assert key.hint.encode() in database_dump()  # the dump does hold what is stored
    assert all(random_part not in str(session.get_decoded()) for session in Session.objects.all())
    assert random_part not in caplog.text


@pytest.mark.django_db
def test_a_factors_secrets_are_not_in_the_database(owner: Enrolled) -> None:
    factor = owner.authenticator_set.get()
    dump = database_dump()
    assert factor.secret not in dump and factor.secret_text.encode() not in dump
    assert all(code.replace("-", "").encode() not in dump and code.encode() not in dump for code in owner.spare_codes)
