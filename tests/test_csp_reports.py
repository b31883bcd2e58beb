"""Reports of violated Content Security Policies: logged, and never many."""

import json
import random
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

pytestmark = pytest.mark.django_db
OLD = {"document-uri": "https://k.example/login/?next=x#y", "effective-directive": "img-src", "blocked-uri": "inline"}
NEW = {"documentURL": "https://k.example/login/", "effectiveDirective": "script-src-elem", "lineNumber": 7}


def report(body: object, content_type: str = "application/csp-report", address: str = "192.0.2.1") -> int:
    text = body if isinstance(body, (str, bytes)) else json.dumps(body)
    client = Client(enforce_csrf_checks=True, REMOTE_ADDR=address)
    return int(client.post("/csp-reports", text, content_type=content_type).status_code)


def logged(caplog: pytest.LogCaptureFixture) -> list[Any]:
    return [record.fields for record in caplog.records if record.name == "console.csp_reports"]  # type: ignore[attr-defined]


def test_both_forms_are_logged_in_the_same_words(caplog: pytest.LogCaptureFixture) -> None:
    assert report({"csp-report": OLD}) == 204
    assert report([{"type": "csp-violation", "body": NEW}], "application/reports+json") == 204
    page = "https://k.example/login/"
    assert logged(caplog) == [
        {"page": page, "directive": "img-src", "blocked": "inline", "source": "", "line": ""},
        {"page": page, "directive": "script-src-elem", "blocked": "", "source": "", "line": "7"},
    ]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        b"\xff",
        "[" * 10_000,
        "7",
        {},
        {"csp-report": 7},
        [7],
        [{"type": "csp-violation"}],
        [{"body": OLD}] * 11,
        {"csp-report": OLD | {"x": "x" * 16_384}},
        {"csp-report": OLD | {"blocked-uri": "http://["}},
    ],
)
def test_what_is_no_report_is_not_counted_and_not_logged(body: object, caplog: pytest.LogCaptureFixture) -> None:
    with CaptureQueriesContext(connection) as asked:
        assert report(body) == 400
    assert not logged(caplog) and not asked.captured_queries


def test_a_field_has_an_end(caplog: pytest.LogCaptureFixture) -> None:
    assert report({"csp-report": OLD | {"blocked-uri": "x" * 1000}}) == 204
    assert len(logged(caplog)[0]["blocked"]) == 200


class TestFloods:
    def test_of_one_network(self) -> None:
        statuses = [report({"csp-report": OLD}, address=f"2001:db8::{n}:1") for n in range(12)]
        assert statuses == [204] * 10 + [429] * 2

    def test_of_a_site(self) -> None:
        addresses = [f"2001:db8:0:{random.getrandbits(16):x}::1" for _ in range(32)]
        assert [report({"csp-report": OLD}, address=address) for address in addresses] == [204] * 30 + [429] * 2

    def test_of_everybody(self, caplog: pytest.LogCaptureFixture) -> None:
        statuses = [report({"csp-report": OLD}, address=f"192.0.2.{n}") for n in range(102)]
        assert statuses == [204] * 100 + [429] * 2 and len(logged(caplog)) == 100
