"""Leaked keys: whoever has one whole can have it deleted, and learns nothing by it."""

import io
import json
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import time_machine
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apikeys.keys import format as keyformat
from apikeys.keys.models import ApiKey, KeyDeleted
from apikeys.leaks.revoke import Leak, revoke_leaked
from console.ledger.kinds import Kind
from console.ledger.models import Entry
from tests.support.reports import report

pytestmark = pytest.mark.django_db


def test_it_is_deleted_and_recorded(made: tuple[ApiKey, str]) -> None:
    answer = report({"keys": [made[1], made[1], keyformat.new_secret(), "sk-nonsense"]})
    assert (answer.status_code, answer.json()) == (202, {"received": 4})
    key = ApiKey.objects.get()
    assert key.deleted_at and key.sealed_secret is None
    entry = Entry.objects.get(kind=Kind.KEY_LEAKED)
    assert (entry.key_id, entry.actor, entry.who, entry.address) == (key.pk, "report", "", "127.0.0.1")
    assert report(made[1], "text/plain").json() == {"received": 1}


@pytest.mark.parametrize("content_type", ["text/plain", "application/json"])
def test_a_byte_order_mark_is_no_part_of_a_key(made: tuple[ApiKey, str], content_type: str) -> None:
    body = made[1] if content_type == "text/plain" else json.dumps({"keys": [made[1]]})
    assert report(f"\ufeff{body}", content_type).status_code == 202
    assert ApiKey.objects.get().deleted_at


def test_the_answer_tells_nothing(made: tuple[ApiKey, str]) -> None:
    work: list[list[str]] = []
    answers = []
    for secret in (made[1], made[1], keyformat.new_secret(), "nonsense"):
        with CaptureQueriesContext(connection) as asked:
            answers.append(report({"keys": [secret]}))
        work.append([query["sql"][:30] for query in asked if "console_entry" in query["sql"]])
    for answer in answers:
        answer.headers.pop("X-Request-Id")
    assert len({(answer.status_code, answer.content, str(answer.headers)) for answer in answers}) == 1
    assert work[0] and work[0] == work[1] == work[2] == work[3], "what it takes does not tell either"
    assert Entry.objects.filter(kind=Kind.KEY_LEAKED).count() == 1


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("", "text/plain"),
        ("{", "application/json"),
        ("[]", "application/json"),
        ('["sk-", {"token": 1}]', "application/json"),
        ('[{"token": null, "url": "https://example.org"}]', "application/json"),
        ('[["sk-"]]', "application/json"),
        (json.dumps([{"token": "sk-"}] * 101), "application/json"),
        ('{"keys": []}', "application/json"),
        ('{"keys": [1]}', "application/json"),
        ('{"keys": "sk-"}', "application/json"),
        ("sk-x " * 101, "text/plain"),
        ("s" * 70_000, "text/plain"),
        ("[" * 60_000, "application/json"),
    ],
)
def test_what_is_no_report_is_told_how(body: str, content_type: str) -> None:
    answer = report(body, content_type)
    assert answer.status_code == 400 and "or one key per line" in answer.json()["message"]


def test_one_address_reports_only_so_often(made: tuple[ApiKey, str]) -> None:
    with time_machine.travel("2026-03-01", tick=False) as clock:
        statuses = [report({"keys": ["sk-x"]}).status_code for _ in range(11)]
        assert statuses == [202] * 10 + [429]
        assert report({"keys": [made[1]]}).headers["Retry-After"] == "60"
        assert not ApiKey.objects.get().deleted_at
        assert report({"keys": ["sk-x"]}, REMOTE_ADDR="192.0.2.1").status_code == 202
        clock.shift(61)
        assert report({"keys": [made[1]]}).status_code == 202
    assert ApiKey.objects.get().deleted_at


def test_whoever_has_a_network_of_ipv6_is_one_address() -> None:
    statuses = [report({"keys": ["sk-x"]}, REMOTE_ADDR=f"2001:db8:0:1::{n}").status_code for n in range(11)]
    assert statuses == [202] * 10 + [429]
    assert report({"keys": ["sk-x"]}, REMOTE_ADDR="2001:db8:0:2::1").status_code == 202


def test_whoever_has_many_networks_of_ipv6_gets_no_further() -> None:
    def one() -> int:
        return int(report({"keys": ["sk-x"]}, REMOTE_ADDR=f"2001:db8:0:{random.getrandbits(16):x}::1").status_code)

    assert [one() for _ in range(40)] == [202] * 30 + [429] * 10
    with CaptureQueriesContext(connection) as asked:
        assert one() == 429
    assert not [query["sql"] for query in asked if not query["sql"].startswith("SELECT")], "nothing is written"
    assert report({"keys": ["sk-x"]}, REMOTE_ADDR="2001:db8:1::1").status_code == 202


@pytest.mark.django_db(transaction=True)
def test_many_at_once_are_no_more_than_one_after_the_other() -> None:
    def one(_: int) -> int:
        try:
            return int(report({"keys": ["sk-x"]}).status_code)
        finally:
            connection.close()

    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(one, range(16)))
    assert statuses.count(202) <= 10 and statuses.count(429) >= 6


def test_only_post() -> None:
    assert Client().get("/leaked-keys").status_code == 405


@pytest.mark.parametrize("source", ["a file", "standard input"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["", "with a byte order mark"])
def test_by_command(
    made: tuple[ApiKey, str],
    source: str,
    mark: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found, text = tmp_path / "found.txt", f"{mark}{made[1]}\n{keyformat.new_secret()}\n"
    found.write_text(text)
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    call_command("revoke", *([str(found)] if source == "a file" else []))
    assert "1 of 2 deleted" in capsys.readouterr().out
    assert Entry.objects.get(kind=Kind.KEY_LEAKED).actor == "command"


def test_somebody_else_was_faster(made: tuple[ApiKey, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def deleted(*words: object, **more: object) -> None:
        raise KeyDeleted

    monkeypatch.setattr(ApiKey, "revoke", deleted)
    assert revoke_leaked([Leak(made[1])]) == 0
