"""Rows and exports of the ledger's first format go on verifying; an export is verified with Python alone."""

import csv
import hashlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.sql import emit_post_migrate_signal
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from console.factors.models import Authenticator
from console.ledger.models import Entry
from console.ledger.sentences import detail
from console.models import User
from tests.support import html
from tests.support.servers import ROOT
from tests.support.world import enrolled, verified_client

FIRST_COLUMNS = ["number", "at", "kind", "who", "address", "factor", "browser", "key_id", "key", "detail"]
FIRST_ROWS: list[dict[str, Any]] = [
    {"kind": "user created", "who": "the command line", "detail": "early"},
    {"kind": "logged on", "who": "early", "address": "192.0.2.7", "factor": "Authenticator app", "browser": "=Browser"},
    {"kind": "key refused", "who": "early", "detail": "You have 3 of 3 API keys."},
    {"kind": "mail address changed", "who": "early", "detail": "new@example.org"},
]


def first_format() -> Iterator[tuple[list[str], bytes]]:
    """Those rows as the first version exported them, with their hashes."""
    previous = bytes(32)
    for number, values in enumerate(FIRST_ROWS, 1):
        row = {"number": str(number), "at": f"2026-01-01T12:00:0{number}.000000Z"} | values
        cells = [row.get(name, "") for name in FIRST_COLUMNS]
        cells = [f"'{cell}" if cell[:1] == "=" else cell for cell in cells]
        line = io.StringIO()
        csv.writer(line).writerow(cells)
        previous = hashlib.sha256(previous + line.getvalue().encode()).digest()
        yield cells, previous


def first_export() -> str:
    text = io.StringIO()
    out = csv.writer(text)
    out.writerow([*FIRST_COLUMNS, "hash"])
    out.writerows([*cells, row_hash.hex()] for cells, row_hash in first_format())
    return text.getvalue()


def verify_file(
    folder: Path, export: str | bytes, *words: str, alone: bool = False
) -> subprocess.CompletedProcess[str]:
    """`alone` is as an auditor does: with Python's standard library, and nothing in the environment."""
    file = folder / "activity.csv"
    file.write_bytes(export if isinstance(export, bytes) else export.encode())
    command = [sys.executable, *(["-S"] if alone else []), "-m", "console.ledger.verify", str(file), *words]
    environment = {} if alone else {name: text for name, text in os.environ.items() if name.startswith("COVERAGE")}
    environment["PATH"] = os.environ["PATH"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.django_db(transaction=True)
def test_a_database_of_the_first_format_is_upgraded_in_place_and_verifies(capsys: pytest.CaptureFixture[str]) -> None:
    """From the schema before: rows stay, new ones follow them in one chain, and all are shown."""
    executor = MigrationExecutor(connection)
    before = [("console", "0006_mail_address"), ("apikeys", "0005_gate_index")]
    executor.migrate(before)
    try:
        old = executor.loader.project_state(before).apps
        account = old.get_model("console", "User").objects.create(username="early", password="!")
        for (_, row_hash), (number, values) in zip(first_format(), enumerate(FIRST_ROWS, 1), strict=True):
            at = datetime(2026, 1, 1, 12, 0, number, tzinfo=UTC)
            given = {"factor": "", "browser": "", "key": "", "detail": ""} | values
            old.get_model("console", "Entry").objects.create(
                account=account, number=number, at=at, hash=row_hash, **given
            )
        old.get_model("console", "User").objects.create(username="idle", password="!")
        old.get_model("console", "Mail").objects.create(to="early@example.org", subject="waits", body="x")
    finally:
        MigrationExecutor(connection).migrate(executor.loader.graph.leaf_nodes())
        emit_post_migrate_signal(verbosity=0, interactive=False, db=connection.alias)  # as `migrate` does
    owner = User.objects.get(username="early")
    new = enrolled("another", account=owner)
    call_command("verify_ledger", "--account=early")
    assert f"account early: {Entry.objects.filter(account=owner).count()} rows" in capsys.readouterr().out
    call_command("verify_ledger")
    assert "account idle: 1 rows" in capsys.readouterr().out
    assert detail(Entry.objects.get(account__username="idle")) == "User idle, before this ledger began."
    formats = Entry.objects.filter(account=owner).order_by("number").values_list("format", flat=True)
    assert list(formats)[: len(FIRST_ROWS)] == [1] * len(FIRST_ROWS) and set(formats) == {1, 2}
    assert new.root == owner


@pytest.mark.django_db
class TestBothFormats:
    @pytest.fixture
    def owner(self, db: None) -> User:
        """An owner whose ledger begins with rows of the first format."""
        user = User.objects.create(username="early")
        for (_, row_hash), (number, values) in zip(first_format(), enumerate(FIRST_ROWS, 1), strict=True):
            at = datetime(2026, 1, 1, 12, 0, number, tzinfo=UTC)
            Entry.objects.create(account=user, number=number, at=at, hash=row_hash, **values)
        Authenticator.pending(user).confirm(replacing=False)
        return user

    def test_the_page_shows_both(self, owner: User) -> None:
        page = verified_client(owner).get("/activity/").content
        shown = html.texts(page, "#activity tbody td:nth-of-type(1)")
        assert shown[-1] == "User created early"
        assert shown[-3] == "API key creation refused You have 3 of 3 API keys."
        assert shown[1] == "Factor added Authenticator app of user early."
        actors = html.texts(page, "#activity tbody td:nth-of-type(2)")
        assert (actors[0], actors[-2], actors[-1]) == ("Command line", "early Authenticator app", "the command line")

    def test_a_kind_is_found_in_both(self, owner: User) -> None:
        page = verified_client(owner).get("/activity/", {"kind": "user.logged_on"}).content
        assert html.texts(page, "#activity tbody td:nth-of-type(1)") == ["Logged on"]

    def test_an_export_of_both_needs_python_alone(self, owner: User, tmp_path: Path) -> None:
        export = verified_client(owner).get("/activity/csv/").content
        head = bytes(Entry.objects.filter(account=owner)[0].hash).hex()
        verified = verify_file(tmp_path, export, "--head", head, alone=True)
        assert (verified.returncode, verified.stderr) == (0, "")
        assert verified.stdout == f"{tmp_path}/activity.csv: 6 rows, last hash {head}\n"
        assert verify_file(tmp_path, b"\xef\xbb\xbf" + export).returncode == 0, "as a spreadsheet saves it"

    @pytest.mark.parametrize(
        ("number", "column", "value", "said"),
        [
            (2, "who", "mallory", "row 2, or a row before it, was changed"),
            (6, "params", '{"user":"mallory"}', "row 6, or a row before it, was changed"),
            (6, "detail", "Nothing happened.", "row 6 was changed: its format has no detail"),
            (2, "params", "{}", "row 2 was changed: its format has no params"),
            (5, "format", "1", "row 5 was changed: its format has no actor, params"),
            (5, "format", "3", "row 5 has format 3, which needs a newer version of this program"),
            (5, "format", "x", "row 5 has format x"),
            (5, "hash", "00", "row 5, or a row before it, was changed"),
            (5, "hash", "x", "row 5 is incomplete"),
        ],
    )
    def test_a_changed_export_is_refused(
        self, owner: User, tmp_path: Path, number: int, column: str, value: str, said: str
    ) -> None:
        rows = list(csv.DictReader(verified_client(owner).get("/activity/csv/").content.decode().splitlines()))
        rows[number - 1][column] = value
        text = io.StringIO()
        out = csv.DictWriter(text, rows[0])
        out.writeheader()
        out.writerows(rows)
        verified = verify_file(tmp_path, text.getvalue())
        assert verified.returncode == 1 and said in verified.stderr

    def test_rows_cut_off_show_by_a_hash_kept_elsewhere(self, owner: User, tmp_path: Path) -> None:
        export = verified_client(owner).get("/activity/csv/").content.decode()
        head = bytes(Entry.objects.filter(account=owner)[0].hash).hex()
        cut = "".join(export.splitlines(keepends=True)[:-1])
        assert verify_file(tmp_path, cut).returncode == 0
        assert "rows were cut off the end" in verify_file(tmp_path, cut, "--head", head).stderr


def test_an_export_of_the_first_version_verifies(tmp_path: Path) -> None:
    verified = verify_file(tmp_path, first_export())
    assert (verified.returncode, verified.stderr) == (0, "")
    assert "4 rows, last hash" in verified.stdout


@pytest.mark.parametrize("words", [["--head", "00"], ["--head", "x"]])
def test_what_is_no_hash_is_refused(tmp_path: Path, words: list[str]) -> None:
    verified = verify_file(tmp_path, first_export(), *words)
    assert verified.returncode == 2 and "--head" in verified.stderr


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    command = [sys.executable, "-S", "-m", "console.ledger.verify", str(tmp_path / "none.csv")]
    verified = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert verified.returncode == 1 and "none.csv" in verified.stderr
