"""CSV files of any length: sent while they are made, and never whole to the eye when they are not."""

import io
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from django.db import DatabaseError, connection
from django.http import StreamingHttpResponse
from django.test import Client

from console.factors.models import RecoveryCodes
from console.ledger.chain import BrokenChain, read_export, verify
from console.ledger.models import Entry
from tests.support import filling
from tests.support.person import Person
from tests.support.servers import ROOT, Server
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


FILL = "from tests.support import filling; filling.ledger(User.objects.get(username='root'), 40_000)"
DROP = "from django.db import connection; connection.cursor().execute('ALTER TABLE console_entry RENAME TO gone')"


def run_in(server: Server, script: str) -> None:
    """In that server's installation."""
    prepared = f"import django; django.setup(); from console.models import User; {script}"
    environment = server.environment | {"DJANGO_SETTINGS_MODULE": "console.settings"}
    subprocess.run([sys.executable, "-c", prepared], cwd=ROOT, env=environment, check=True)


def test_a_failure_midway_closes_the_connection(server: Server) -> None:
    with Person(server.address).log_on() as owner:
        run_in(server, FILL)  # more than the sockets between us buffer
        with owner.http.stream("GET", LEDGER) as answer:
            assert answer.status_code == 200 and "Content-Length" not in answer.headers
            pieces = answer.iter_raw()
            sent = next(pieces)
            run_in(server, DROP)
            with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
                for piece in pieces:
                    sent += piece
        with pytest.raises(BrokenChain, match="is incomplete"):
            verified(sent)
        assert owner.http.get("/api-keys/").status_code == 200, "the server goes on"
