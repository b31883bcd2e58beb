"""CSV files of any length: sent while they are made, and never whole to the eye when they are not."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from django.db import DatabaseError, connection
from django.http import StreamingHttpResponse
from django.test import Client

from apikeys.models import ApiKey
from console.factors.models import RecoveryCodes
from console.ledger.chain import BrokenChain, read_export, verify
from console.ledger.models import Entry
from tests.support import filling
from tests.support.person import Person
from tests.support.servers import Server
from tests.support.world import Enrolled

LEDGER = "/activity/csv/"
MANY = 5000


def stream(browser: Client, path: str) -> Iterator[bytes]:
    response = browser.get(path)
    assert isinstance(response, StreamingHttpResponse)
    pieces: Any = iter(response)
    return pieces


def verified(export: bytes) -> int:
    """How many rows it proves."""
    return verify(read_export(io.StringIO(export.decode("utf-8-sig")))).rows


@contextmanager
def table_gone(name: str) -> Iterator[None]:
    def refuse(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if f'FROM "{name}"' in sql:
            raise DatabaseError("injected")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(refuse):
        yield


@pytest.mark.django_db
class TestLedger:
    @pytest.fixture(autouse=True)
    def rows(self, owner: Enrolled) -> None:
        filling.ledger(owner, MANY)

    def test_it_is_whole(self, owner: Enrolled, mine: Client) -> None:
        assert verified(b"".join(stream(mine, LEDGER))) == Entry.objects.filter(account=owner).count() > MANY

    def test_it_is_read_while_it_is_sent(self, owner: Enrolled, mine: Client) -> None:
        pieces = stream(mine, LEDGER)
        first = next(pieces)
        assert len(first) < 100_000
        RecoveryCodes.issue(owner)  # is in the file, which was not read to its end when the answer began
        rest = b"".join(pieces)
        assert b"recovery_codes.created" in rest
        assert verified(first + rest) == Entry.objects.filter(account=owner).count()

    def test_wherever_it_is_cut_off_it_does_not_look_whole(self, mine: Client) -> None:
        pieces, sent = stream(mine, LEDGER), b""
        with table_gone("console_entry"), pytest.raises(DatabaseError, match="injected"):
            for piece in pieces:
                sent += piece
                with pytest.raises(BrokenChain, match=r"row \d+ is incomplete"):
                    verified(sent)
        assert len(sent) > 200_000, "it did begin"

    def test_what_fails_before_the_first_byte_has_the_page_of_an_error(self, mine: Client) -> None:
        mine.raise_request_exception = False
        with table_gone("console_entry"):
            response = mine.get(LEDGER)
        assert response.status_code >= 500 and "Content-Disposition" not in response.headers

    def test_head_reads_no_more_than_the_beginning(self, mine: Client) -> None:
        response = mine.head(LEDGER)
        assert response.headers["Content-Disposition"] == 'attachment; filename="activity.csv"'
        assert response.content == b""


@pytest.mark.django_db
class TestUsage:
    def test_key_by_key_the_newest_first_and_hour_by_hour(self, owner: Enrolled, mine: Client) -> None:
        keys = filling.keys(owner, 60)
        filling.keys(owner, 5)  # never called
        filling.usage(keys, 100)
        lines = b"".join(stream(mine, "/api-keys/usage/csv/?days=7")).decode("utf-8-sig").splitlines()
        rows = [line.split(",") for line in lines[1:]]
        assert [row[1] for row in rows] == [str(key.pk) for key in keys for _ in range(100)]
        assert all(
            earlier[0] < later[0] for earlier, later in zip(rows, rows[1:], strict=False) if earlier[1] == later[1]
        )
        assert {row[2] for row in rows} == {key.hint for key in keys}

    def test_of_one_key(self, owner: Enrolled, other: Enrolled, mine: Client) -> None:
        key, _ = filling.keys(owner, 2)
        filling.usage([*ApiKey.objects.all()], 1)
        lines = mine.get(f"/api-keys/usage/csv/?key={key.pk}").content.decode().splitlines()
        assert [line.split(",")[1] for line in lines[1:]] == [str(key.pk)]
        assert mine.get(f"/api-keys/usage/csv/?key={filling.keys(other, 1)[0].pk}").status_code == 404

    def test_a_line_is_cut_where_the_file_is(self, owner: Enrolled, mine: Client) -> None:
        filling.usage(filling.keys(owner, 1200), 1)
        first = next(stream(mine, "/api-keys/usage/csv/"))
        assert not first.endswith(b"\n") and first.count(b"\n") > 500


FILL = """
from console.models import User
from tests.support import filling
filling.ledger(User.objects.get(username="root"), 40_000)
"""
BREAK = """
from django.db import connection
connection.cursor().execute("ALTER TABLE console_entry RENAME TO gone")
"""


def test_a_failure_midway_closes_the_connection(server: Server) -> None:
    with Person(server.address).log_on() as owner:
        server.run_script(FILL)  # more than the sockets between us buffer
        with owner.http.stream("GET", LEDGER) as answer:
            assert answer.status_code == 200 and "Content-Length" not in answer.headers
            pieces = answer.iter_raw()
            sent = next(pieces)
            server.run_script(BREAK)
            with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
                for piece in pieces:
                    sent += piece
        with pytest.raises(BrokenChain, match="is incomplete"):
            verified(sent)
        assert owner.http.get("/api-keys/").status_code == 200, "the server goes on"
