"""The ledger: no change without its row, no row without its change, and no row that can be altered unseen."""

import copy
import csv
import io
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from apikeys.models import ApiKey
from console.factors.models import Authenticator
from console.ledger import triggers
from console.ledger.kinds import Kind
from console.ledger.models import Entry
from console.models import User
from console.operators import lift_lockout, set_active
from tests.support import html
from tests.support.actions import ACTIONS, create, delete, view
from tests.support.person import PASSWORD, code
from tests.support.servers import ROOT
from tests.support.tampering import drop_triggers
from tests.support.world import Enrolled, World, enrolled, only_postgres, verified_client

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class FailAt:
    """An execute_wrapper: the n-th statement that writes fails."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.split(maxsplit=1)[0] in ("INSERT", "UPDATE", "DELETE"):
            self.left -= 1
            if self.left == 0:
                raise DatabaseError("injected")
        return execute(sql, params, many, context)


@pytest.mark.parametrize("kind", ACTIONS)
@pytest.mark.no_mutants
def test_whatever_fails_there_is_no_change_without_its_row_and_no_row_without_its_change(
    kind: Kind, world: World
) -> None:
    world.browser.raise_request_exception = False
    cookies = copy.deepcopy(world.browser.cookies)
    before, rows = world.state(), Entry.objects.filter(kind=kind).count()
    faults = 0
    while True:
        faults += 1
        failing, undo = FailAt(faults), transaction.savepoint()
        with connection.execute_wrapper(failing):
            response = ACTIONS[kind](world)
        connection.needs_rollback = False  # the test's own transaction goes on
        recorded = Entry.objects.filter(kind=kind).count() - rows
        if kind is Kind.KEY_VIEWED:
            changed = bool(html.select(response.content, "#api-key-value"))
            assert recorded or not changed
        else:
            changed = world.state() != before
            assert bool(recorded) == changed, f"write {faults}"
        if failing.left > 0:
            break
        transaction.savepoint_rollback(undo)
        world.browser.cookies = copy.deepcopy(cookies)
    assert faults >= 3 and recorded == 1 and changed, "with no fault it happens, once"


class TestWhatIsRecorded:
    def test_who_when_from_where_and_with_what(self, world: World) -> None:
        world.browser.defaults |= {"HTTP_USER_AGENT": "Browser/1 \x1b[31m", "REMOTE_ADDR": "192.0.2.7"}
        delete(world)
        entry = Entry.objects.get(kind=Kind.KEY_DELETED)
        assert (entry.who, entry.address, entry.browser) == ("owner", "192.0.2.7", "Browser/1 [31m")
        assert (entry.factor, entry.key_id, entry.key) == ("recovery-code", world.key.pk, world.key.hint)
        assert entry.account == world.owner

    def test_the_log_on_and_what_failed_of_it(self, owner: Enrolled, codes: Iterator[str]) -> None:
        browser = Client()
        browser.post("/login/", {"username": "owner", "password": "wrong"})
        browser.post("/login/", {"username": "nobody", "password": "wrong"})
        browser.post("/login/", {"username": "o\0", "password": "wrong"})
        browser.post("/login/", {"username": "owner", "password": PASSWORD})
        browser.post("/login/verify/", {"otp_token": "000000"})
        browser.post("/login/verify/", {"otp_token": next(codes)})
        found = Entry.objects.filter(account=owner).order_by("number").values_list("kind", "who", "factor")
        assert list(found)[2:] == [
            (Kind.PASSWORD_REFUSED, "owner", ""),
            (Kind.CODE_REFUSED, "owner", "totp"),
            (Kind.LOGGED_ON_UNFAMILIAR, "owner", "recovery-code"),
        ]

    def test_a_lockout_once(self, owner: Enrolled) -> None:
        browser = Client()
        for _ in range(13):
            browser.post("/login/", {"username": "owner", "password": "wrong"})
        kinds = list(Entry.objects.values_list("kind", flat=True))
        assert kinds.count(Kind.LOCKED_OUT) == 1 and kinds.count(Kind.PASSWORD_REFUSED) == 9

    def test_a_lockout_from_everywhere_once(self, owner: Enrolled, settings: Settings) -> None:
        settings.GUESSES_PER_ACCOUNT = 2
        for n in range(5):
            Client(REMOTE_ADDR=f"192.0.2.{n}").post("/login/", {"username": "owner", "password": "wrong"})
        entry = Entry.objects.get(kind=Kind.LOCKED_OUT)
        assert (entry.who, entry.params) == ("owner", {"reason": "unfamiliar"})

    def test_codes_that_come_too_soon_are_not(self, owner: Enrolled, mine: Client) -> None:
        key = ApiKey.objects.issue(owner, uuid.uuid4())[0]
        with time_machine.travel(timezone.now(), tick=False):
            answers = [mine.post(f"/api-keys/{key.pk}/view/", {"otp_token": "000000"}).status_code for _ in range(5)]
        assert answers == [422] + [429] * 4
        assert Entry.objects.filter(kind=Kind.CODE_REFUSED).count() == 1

    def test_a_replaced_authenticator_is_no_log_on(self, owner: Enrolled, mine: Client, codes: Iterator[str]) -> None:
        secret = html.text(mine.get("/security/authenticator/").content, "#totp-secret")
        data = {"otp_token": code(secret), "current-password": PASSWORD, "current-otp_token": next(codes)}
        assert mine.post("/security/authenticator/", data).status_code == 200
        kinds = [*Entry.objects.values_list("kind", flat=True)][:3]
        assert kinds == [Kind.RECOVERY_CODES_CREATED, Kind.FACTOR_ADDED, Kind.FACTOR_REMOVED]

    def test_an_account_that_a_command_makes(self, db: None) -> None:
        call_command("createroot", "new")
        entry = Entry.objects.get()
        assert (entry.kind, entry.actor, entry.account.username) == (Kind.USER_CREATED, "command", "new")

    def test_what_changes_nothing_is_not(self, owner: Enrolled) -> None:
        before = Entry.objects.count()
        set_active(owner, True)
        lift_lockout(owner)
        assert Entry.objects.count() == before

    def test_a_damaged_authenticator(self, owner: Enrolled, mine: Client, codes: Iterator[str]) -> None:
        key = ApiKey.objects.issue(owner, uuid.uuid4())[0]
        Authenticator.objects.update(sealed_secret=b"nonsense")
        answer = mine.post(f"/api-keys/{key.pk}/view/", {"otp_token": "123456"})
        assert answer.status_code == 422 and "modified outside the console" in answer.content.decode()
        entry = Entry.objects.get(kind=Kind.FACTOR_DAMAGED)
        assert entry.account == owner and entry.params == {"user": "owner", "factor": "totp"}
        assert mine.post(f"/api-keys/{key.pk}/view/", {"otp_token": next(codes)}).status_code == 200

    def test_refused_attempts(self, owner: Enrolled, mine: Client, ram_user: Enrolled) -> None:
        for _ in range(4):
            mine.post("/api-keys/create/", {"request_id": uuid.uuid4()})
        verified_client(ram_user).post("/api-keys/create/", {"request_id": uuid.uuid4()})
        by_owner = Entry.objects.get(account=owner, kind=Kind.CREATION_REFUSED)
        assert by_owner.params == {"reason": "max_active", "used": 3, "max": 3}
        by_ram_user = Entry.objects.get(account=owner, kind=Kind.ACCESS_REFUSED)
        assert by_ram_user.who == "ram-user"

    def test_a_damaged_key(self, world: World, codes: Iterator[str]) -> None:
        other = ApiKey.objects.issue(world.owner, uuid.uuid4())[0]
        world.browser.raise_request_exception = False
        ApiKey.objects.filter(pk=world.key.pk).update(sealed_secret=other.sealed_secret)
        assert world.browser.post(f"/api-keys/{world.key.id}/view/", {"otp_token": world.code}).status_code == 500
        swapped = ApiKey.objects.get(pk=other.pk)
        ApiKey.objects.filter(pk=other.pk).update(digest=b"0" * 32)
        response = world.browser.post(f"/api-keys/{swapped.id}/view/", {"otp_token": next(codes)})
        assert response.status_code == 500 and not html.select(response.content, "#api-key-value")
        assert "modified outside the console" in response.content.decode()
        assert Entry.objects.filter(kind=Kind.KEY_DAMAGED).count() == 2
        assert not Entry.objects.filter(kind=Kind.KEY_VIEWED).exists()


def damage(entry: Entry, **values: Any) -> None:
    drop_triggers()
    Entry.objects.filter(pk=entry.pk).update(**values)


def remove(entry: Entry) -> None:
    """As somebody with the database at hand would."""
    drop_triggers()
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM console_entry WHERE id = %s", [entry.pk])


COLUMNS = "account_id, number, format, at, kind, actor, address, factor, browser, key_id, key, params, detail, hash"
TAKEN = f"INTO console_entry (id, {COLUMNS}, who) SELECT id, {COLUMNS}, '' FROM console_entry"
CHANGES = {
    "update": "UPDATE console_entry SET who = ''",
    "update of one": "UPDATE console_entry SET who = '' WHERE number = 1",
    "delete": "DELETE FROM console_entry",
    "delete of one": "DELETE FROM console_entry WHERE number = 1",
}
CHANGES_OF_SQLITE = {
    "replace by id": f"REPLACE {TAKEN}",
    "replace by number": f"REPLACE INTO console_entry ({COLUMNS}, who) SELECT {COLUMNS}, '' FROM console_entry",
    "upsert": f"INSERT {TAKEN} WHERE true ON CONFLICT (id) DO UPDATE SET who = excluded.who",
}
CHANGES_OF_POSTGRES = {
    "truncate": "SET CONSTRAINTS ALL IMMEDIATE; TRUNCATE console_entry",
    "upsert": CHANGES_OF_SQLITE["upsert"],
    "merge": "MERGE INTO console_entry USING console_user ON true WHEN MATCHED THEN DELETE",
}


def test_the_database_refuses_to_change_it(world: World) -> None:
    before = list(Entry.objects.values())
    for change in (CHANGES | (CHANGES_OF_SQLITE if connection.vendor == "sqlite" else CHANGES_OF_POSTGRES)).values():
        with connection.cursor() as cursor, pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            cursor.execute(change)
        assert list(Entry.objects.values()) == before, change
    assert create(world).status_code == 200 and Entry.objects.count() == len(before) + 1


def test_what_refuses_it_waits_for_the_table(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is not migrated yet."""
    drop_triggers()
    with monkeypatch.context() as before:
        before.setattr(connection.introspection, "table_names", lambda cursor: [])
        triggers.install("default")
    assert Entry.objects.update(browser="x")
    triggers.install("default")
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        Entry.objects.update(browser="y")


class TestItsProof:
    @pytest.fixture
    def rows(self, world: World) -> list[Entry]:
        for _ in range(2):
            create(world)
        view(world)
        enrolled("somebody else")
        return list(Entry.objects.filter(account=world.owner).order_by("number"))

    def test_it_holds(self, rows: list[Entry], capsys: pytest.CaptureFixture[str]) -> None:
        call_command("verify_ledger")
        said = capsys.readouterr().out
        assert f"account owner: {len(rows)} rows, last hash {bytes(rows[-1].hash).hex()}" in said
        assert "account somebody else: 2 rows" in said

    @pytest.mark.parametrize(
        "change",
        [
            {"who": "mallory"},
            {"at": NOON},
            {"address": "192.0.2.9"},
            {"hash": b"0" * 32},
            {"detail": "x"},
            {"params": {"a": 1}},
            {"format": 1},
        ],
        ids=str,
    )
    def test_a_changed_row_is_named(self, change: dict[str, Any], rows: list[Entry]) -> None:
        damage(rows[2], **change)
        with pytest.raises(CommandError, match="account owner: row 3( was changed|, or a row before it, was changed)"):
            call_command("verify_ledger")

    def test_a_row_taken_out_is_named(self, rows: list[Entry]) -> None:
        remove(rows[2])
        with pytest.raises(CommandError, match="row 3 is missing; row 4 is in its place"):
            call_command("verify_ledger", "--account=owner")

    def test_a_row_put_before_the_first_is_named(self, rows: list[Entry]) -> None:
        rows[0].pk, rows[0].number = None, 0
        Entry.objects.bulk_create([rows[0]])
        with pytest.raises(CommandError, match="row 1 is missing; row 0 is in its place"):
            call_command("verify_ledger", "--account=owner")

    def test_swapped_rows_are_named(self, rows: list[Entry]) -> None:
        damage(rows[1], number=99)
        damage(rows[2], number=2)
        damage(rows[1], number=3)
        with pytest.raises(CommandError, match="row 2, or a row before it, was changed"):
            call_command("verify_ledger")

    def test_rows_cut_off_the_end_show_by_a_hash_kept_elsewhere(self, rows: list[Entry]) -> None:
        head = bytes(rows[-1].hash).hex()
        call_command("verify_ledger", "--account=owner", f"--head={head}")
        remove(rows[-1])
        call_command("verify_ledger", "--account=owner")
        with pytest.raises(CommandError, match="cut off the end"):
            call_command("verify_ledger", "--account=owner", f"--head={head}")

    def test_words_that_cannot_be_right(self) -> None:
        with pytest.raises(CommandError, match="no such root account"):
            call_command("verify_ledger", "--account=nobody")
        User.objects.create(username="a")
        User.objects.create(username="b")
        with pytest.raises(CommandError, match="--head needs --account"):
            call_command("verify_ledger", "--head=" + "00" * 32)

    @pytest.mark.parametrize("address", ["::ffff:192.0.2.7", "fe80::1%eth0", "2001:DB8::1", "nonsense"])
    def test_it_holds_whatever_the_address_looked_like(self, address: str, world: World) -> None:
        world.browser.defaults["REMOTE_ADDR"] = address
        create(world)
        call_command("verify_ledger")
        shown = Entry.objects.filter(kind=Kind.KEY_CREATED).values_list("address", flat=True)[0]
        assert shown in ("192.0.2.7", "fe80::1", "2001:db8::1", None)

    def test_offline_from_an_export(
        self, rows: list[Entry], world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        export = tmp_path / "activity.csv"
        export.write_bytes(world.browser.get("/activity/csv/").content)
        with connection.execute_wrapper(FailAt(1)):
            call_command("verify_ledger", export)
        assert f"{len(rows)} rows, last hash {bytes(rows[-1].hash).hex()}" in capsys.readouterr().out
        lines = export.read_bytes().splitlines(keepends=True)
        export.write_bytes(b"".join(lines[:3] + [lines[3].replace(b"command", b"report")] + lines[4:]))
        with pytest.raises(CommandError, match="row 3, or a row before it, was changed"):
            call_command("verify_ledger", export)
        export.write_bytes(b"".join(lines[:3] + [b"3,x\r\n"]))
        with pytest.raises(CommandError, match="row 3 is incomplete"):
            call_command("verify_ledger", export)
        export.write_bytes(world.browser.get("/activity/csv/?kind=key.created").content)
        with pytest.raises(CommandError, match="row 1 is missing"):
            call_command("verify_ledger", export)
        export.write_bytes(lines[0] + b"ab\r\n")
        with pytest.raises(CommandError, match="row 1 is incomplete"):
            call_command("verify_ledger", export)
        export.write_text("nonsense")
        with pytest.raises(CommandError, match="not an export"):
            call_command("verify_ledger", export)
        with pytest.raises(CommandError, match="Cannot read"):
            call_command("verify_ledger", tmp_path / "none.csv")

    @pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b""], ids=["with", "without"])
    def test_an_export_has_a_byte_order_mark_for_excel_and_verifies_without_it_too(
        self, mark: bytes, rows: list[Entry], world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        export, content = tmp_path / "activity.csv", world.browser.get("/activity/csv/").content
        assert content.startswith(b"\xef\xbb\xbfnumber,") and "…".encode() in content
        export.write_bytes(mark + content[3:])
        verified = f"{len(rows)} rows, last hash {bytes(rows[-1].hash).hex()}"
        call_command("verify_ledger", export)
        assert verified in capsys.readouterr().out
        alone = [sys.executable, "-S", "-m", "console.ledger.verify", str(export)]  # without any package
        assert verified in subprocess.run(alone, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    def test_cells_that_a_spreadsheet_would_run_are_proved_as_they_are_exported(self, world: World) -> None:
        world.browser.post("/api-keys/create/", {"request_id": uuid.uuid4()}, HTTP_USER_AGENT='=1+1, "x"')
        export = world.browser.get("/activity/csv/").content.decode()
        assert "'=1+1" in export and ",=1" not in export
        last = list(csv.reader(io.StringIO(export)))[-1]
        assert last[8] == '\'=1+1, "x"'
        call_command("verify_ledger")


@only_postgres
def test_the_role_of_the_application_needs_no_update_or_delete(world: World) -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE ROLE application")
        cursor.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO application")
        cursor.execute("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO application")
        cursor.execute("REVOKE UPDATE, DELETE, TRUNCATE ON console_entry FROM application")
        cursor.execute("SET ROLE application")
        try:
            assert create(world).status_code == 200
            assert delete(world).status_code == 302
            for statement in ("UPDATE console_entry SET who = ''", "DELETE FROM console_entry"):
                with pytest.raises(DatabaseError, match="permission denied"), transaction.atomic():
                    cursor.execute(statement)
        finally:
            cursor.execute("RESET ROLE")
            cursor.execute("DROP OWNED BY application")
            cursor.execute("DROP ROLE application")
