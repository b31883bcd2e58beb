"""A deleted key stays deleted at the gate, whatever becomes of its row; and the file that this rests on."""

import logging
import os
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django.utils import timezone

from apikeys.keys import tombstones
from apikeys.keys.deletions import Deletions
from apikeys.keys.tombstones import LOST, MISSING, UNREADABLE, Tombstone, Tombstones, append, read
from apikeys.models import ApiKey
from console import storage
from console.ledger.kinds import Kind
from console.ledger.models import Entry
from tests.support import filling
from tests.support.gates import TOKEN, Gate, GateInProcess, new_key, refusal
from tests.support.servers import as_another_user
from tests.support.waiting import wait_for

LINE = 123  # bytes
AT = datetime(2026, 6, 1, 12, 0, 0, 999_999, tzinfo=UTC)


@pytest.fixture
def file(tmp_path: Path, settings: Any) -> Path:
    """Of the console in this process, and of the gates in that folder."""
    settings.DELETED_KEYS_FILE = tmp_path / "deleted-keys"
    return tmp_path / "deleted-keys"


def make_active(key: ApiKey) -> None:
    """As somebody does who writes to the database."""
    with connection.cursor() as cursor:
        statement = "UPDATE apikeys_apikey SET deleted_at = NULL, sealed_secret = %s WHERE digest = %s"
        cursor.execute(statement, [b"sealed", bytes(key.digest)])
        assert cursor.rowcount == 1


def console_starts() -> None:
    from console.gunicorn_conf import when_ready

    when_ready(SimpleNamespace(log=logging.getLogger()))


def some(count: int) -> list[Tombstone]:
    return [Tombstone(AT, uuid.uuid4(), os.urandom(32)) for _ in range(count)]


@pytest.mark.django_db(transaction=True)
class TestTheGate:
    @pytest.mark.no_mutants
    def test_it_refuses_a_deleted_key_that_the_database_has_active(self, file: Path, gate: Gate) -> None:
        key, secret = new_key()
        assert gate.status(secret) == 200
        key.revoke()
        make_active(key)
        for _ in range(8):  # each worker
            assert refusal(gate.ask(TOKEN + secret.encode())) == "deleted"

    def test_the_other_keys_are_accepted(self, file: Path, tmp_path: Path) -> None:
        (key, secret), (_, other) = new_key(), new_key()
        with GateInProcess(tmp_path) as gate:
            key.revoke()
            make_active(key)
            assert refusal(gate.ask(TOKEN + secret.encode())) == "deleted"
            assert gate.ask(TOKEN + other.encode())[0] == 200

    def test_it_says_which_key_was_made_active_and_not_again_at_once(
        self, file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        key, secret = new_key()
        with GateInProcess(tmp_path) as gate:
            key.revoke()
            gate.ask(TOKEN + secret.encode())
            make_active(key)
            for _ in range(3):
                gate.ask(TOKEN + secret.encode())
        (record,) = caplog.records
        assert record.levelname == "ERROR"
        said = f"The API key {key.pk} was deleted, and the database has it active: its calls are denied as before."
        assert record.getMessage() == said

    def test_a_deletion_that_is_on_its_way_is_no_alarm(
        self, file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The database was asked before the commit, the file after it."""
        key, secret = new_key()
        with GateInProcess(tmp_path) as gate:
            have = gate.gate.tombstones.have

            def have_after(digests: list[bytes]) -> bool:
                key.revoke()
                return have(digests)

            monkeypatch.setattr(gate.gate.tombstones, "have", have_after)
            monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
            assert refusal(gate.ask(TOKEN + secret.encode())) == "deleted"
        assert not caplog.records

    def test_without_the_file_it_says_so_and_goes_on(
        self, file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        key, secret = new_key()
        asked = GateInProcess(tmp_path)
        file.unlink()
        with asked as gate:
            (said,) = caplog.messages
            assert said.startswith(f"{file}: {MISSING}. A key that was deleted")
            assert gate.ask(path=b"/readyz")[::2] == (503, f"{MISSING}\n".encode())
            assert gate.ask(TOKEN + secret.encode())[0] == 200
            append(file, [])
            assert gate.ask(path=b"/readyz")[::2] == (200, b"ok\n")
            key.revoke()
            make_active(key)
            assert gate.ask(TOKEN + secret.encode())[0] == 401
            file.unlink()
            assert gate.ask(path=b"/readyz")[::2] == (503, f"{MISSING}\n".encode())
            assert gate.ask(TOKEN + secret.encode())[0] == 401, "it remembers"

    @pytest.mark.no_mutants
    def test_meter_makes_the_file_that_a_gate_misses(self, gate: Gate) -> None:
        file = gate.folder / "deleted-keys"
        file.unlink()
        wait_for(file.exists)
        assert gate.ask(path=b"/readyz")[0] == 200


@pytest.mark.once
class TestTheFile:
    def test_a_line_names_time_key_and_digest_to_its_owner_alone(self, tmp_path: Path) -> None:
        file, one = tmp_path / "a" / "new" / "deleted-keys", Tombstone(AT, uuid.UUID(int=7), bytes(range(32)))
        append(file, [one])
        assert file.read_text() == f"2026-06-01T12:00:00Z {one.key_id} {one.digest.hex()}\n"
        assert file.stat().st_mode & 0o777 == 0o600 and file.parent.stat().st_mode & 0o777 == 0o700
        assert [*read(file)] == [(one.key_id, one.digest)]

    @pytest.mark.parametrize(("folder", "readable"), [(0o770, 0o660), (0o750, 0o640), (0o700, 0o600), (0o777, 0o660)])
    def test_it_is_the_groups_as_its_folder_is(self, tmp_path: Path, folder: int, readable: int) -> None:
        """Console, gate and `meter` may be three users. An existing file is left as it is."""
        tmp_path.chmod(folder)
        file = tmp_path / "deleted-keys"
        append(file, [])
        assert file.stat().st_mode & 0o777 == readable
        append(file, some(1))
        file.chmod(0o600)
        append(file, some(1))
        assert file.stat().st_mode & 0o777 == 0o600

    def test_it_is_followed_while_it_grows(self, tmp_path: Path) -> None:
        file, (first, second, third) = tmp_path / "file", some(3)
        append(file, [first])
        found = Tombstones(file)
        assert found.have([first.digest]) and not found.have([second.digest])
        append(file, [second])
        assert found.have([third.digest, second.digest]) and found.problem == ""
        found.close()
        found.close()

    @pytest.mark.parametrize("torn", [b"2026-06-01T12:00:00Z 0000", b"\0" * 300, b"x" * (3 << 20), b"\n\n"])
    def test_what_is_no_line_harms_none_after_it(self, tmp_path: Path, torn: bytes) -> None:
        file, (first, second) = tmp_path / "file", some(2)
        append(file, [first])
        with file.open("ab") as out:
            out.write(torn)
        found = Tombstones(file)
        assert found.known == {first.digest}
        append(file, [second])
        assert found.have([second.digest])
        assert [digest for _, digest in read(file)] == [first.digest, second.digest]
        assert Tombstones(file).known == {first.digest, second.digest} and not found.problem

    def test_half_a_line_is_read_once_the_rest_is_there(self, tmp_path: Path) -> None:
        file, (one,) = tmp_path / "file", some(1)
        file.write_bytes(one.line[:80])
        found = Tombstones(file)
        assert not found.have([one.digest])
        with file.open("ab") as out:
            out.write(one.line[80:])
        assert found.have([one.digest])

    def test_a_long_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tombstones, "PIECE", 1000)
        file, many = tmp_path / "file", some(100)
        append(file, many)
        assert Tombstones(file).known == {one.digest for one in many}

    def test_several_write_at_once(self, tmp_path: Path) -> None:
        file, many = tmp_path / "file", some(200)

        def append_each(some: list[Tombstone]) -> None:
            for one in some:
                append(file, [one])

        threads = [threading.Thread(target=append_each, args=[many[n::8]]) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(read(file)) == sorted((one.key_id, one.digest) for one in many)

    def cut(self, file: Path) -> None:
        os.truncate(file, LINE)

    def emptied(self, file: Path) -> None:
        os.truncate(file, 0)

    def replaced(self, file: Path) -> None:
        file.with_name("new").touch()
        file.with_name("new").rename(file)

    @pytest.mark.parametrize("harm", [cut, emptied, replaced])
    def test_what_it_had_is_known_and_missed(self, tmp_path: Path, harm: Callable[[Any, Path], None]) -> None:
        file, (first, second, third) = tmp_path / "file", some(3)
        append(file, [first, second])
        found = Tombstones(file)
        harm(self, file)
        found.look()
        assert found.have([first.digest]) and found.have([second.digest]) and found.problem == LOST
        append(file, [third])
        assert found.have([third.digest]) and found.problem == LOST
        append(file, [second, first])
        assert found.have([third.digest]) and found.problem == ""

    def test_one_that_is_no_file_or_cannot_be_read(self, tmp_path: Path) -> None:
        assert Tombstones(tmp_path).problem == f"{UNREADABLE}: Is a directory"
        os.mkfifo(tmp_path / "pipe")
        assert Tombstones(tmp_path / "pipe").problem == f"{UNREADABLE}: Illegal seek"
        append(tmp_path / "file", [])
        (tmp_path / "file").chmod(0)
        for parent in [tmp_path, *list(tmp_path.parents)[:3]]:
            parent.chmod(0o755)
        with as_another_user():
            assert Tombstones(tmp_path / "file").problem == f"{UNREADABLE}: Permission denied"


@pytest.mark.django_db(transaction=True)
class TestTheDatabase:
    def test_a_deletion_that_is_not_committed_is_not_noted(self, file: Path) -> None:
        key, _ = new_key()

        class Fault(Exception):
            pass

        with pytest.raises(Fault), transaction.atomic():
            key.revoke()
            raise Fault
        assert not file.exists() and ApiKey.objects.get(pk=key.pk).deleted_at is None

    def test_a_digest_that_was_renewed_meanwhile_is_the_one_that_is_noted(self, file: Path) -> None:
        key, _ = new_key()
        renewed = os.urandom(32)
        ApiKey.objects.filter(pk=key.pk).update(digest=renewed)
        key.revoke()
        assert [*read(file)] == [(key.pk, renewed)]

    def test_one_that_cannot_be_noted_holds_and_is_noted_later(
        self, file: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (key, _), deletions = new_key(), Deletions()
        deletions.complete()
        file.rename(file.with_name("elsewhere"))
        file.mkdir()
        key.revoke()
        assert ApiKey.objects.get(pk=key.pk).deleted_at
        (said,) = caplog.messages
        assert said == f"{file}: the deletion of an API key could not be noted: [Errno 21] Is a directory: '{file}'"
        deletions.complete()
        assert caplog.messages[1].startswith(f"{file}: deleted keys cannot be noted: ")
        assert Client().get("/readyz").status_code == 200
        file.rmdir()
        file.with_name("elsewhere").rename(file)
        deletions.complete()
        assert [*read(file)] == [(key.pk, bytes(key.digest))]

    def test_what_was_deleted_elsewhere_is_noted(self, file: Path) -> None:
        """On another host, or before there was a file: the database has it, and the file not."""
        keys = filling.keys(new_key()[0].account, 1000, deleted=True)
        deletions = Deletions()
        deletions.complete()
        assert {*read(file)} == {(key.pk, bytes(key.digest)) for key in keys}
        later, much_later = new_key()[0], new_key()[0]
        ApiKey.objects.filter(pk=later.pk).update(deleted_at=timezone.now(), sealed_secret=None)
        deletions.complete()
        deletions.complete()
        assert [*read(file)][1000:] == [(later.pk, bytes(later.digest))]
        an_hour_ago = timezone.now() - timedelta(hours=1)
        ApiKey.objects.filter(pk=much_later.pk).update(deleted_at=an_hour_ago, sealed_secret=None)
        deletions.complete()
        assert len([*read(file)]) == 1001, "only what is new is asked for"
        Deletions().complete()
        assert len([*read(file)]) == 1002, "at a start, all"

    @pytest.mark.parametrize("harm", ["unlink", "truncate"])
    def test_a_file_that_lost_lines_gets_them_again(
        self, file: Path, caplog: pytest.LogCaptureFixture, harm: str
    ) -> None:
        filling.keys(new_key()[0].account, 3, deleted=True)
        deletions = Deletions()
        deletions.complete()
        before = file.read_text()
        caplog.clear()
        file.unlink() if harm == "unlink" else os.truncate(file, LINE)
        deletions.complete()
        assert sorted(file.read_text().splitlines()) == sorted(before.splitlines())
        problem, count = (MISSING, 3) if harm == "unlink" else (LOST, 2)
        assert caplog.messages == [f"{file}: {problem}. {count} deleted keys were noted from the database."]

    def test_a_key_that_was_made_active_is_deleted_again(self, file: Path) -> None:
        key, _ = new_key()
        moved, _ = new_key()
        kept, _ = new_key()
        for one in (key, moved):
            one.revoke()
            make_active(one)
        renewed = os.urandom(32)
        ApiKey.objects.filter(pk=moved.pk).update(digest=renewed)
        console_starts()
        assert [*ApiKey.objects.active()] == [kept]
        row = Entry.objects.filter(key_id=key.pk).first()
        assert row and (row.kind, row.actor, row.params) == (Kind.KEY_DELETED, "system", {"reason": "again"})
        assert (moved.pk, renewed) in [*read(file)]

    def test_a_console_starts_without_the_file_too(self, file: Path, caplog: pytest.LogCaptureFixture) -> None:
        new_key()
        console_starts()
        assert not caplog.messages
        file.mkdir()
        console_starts()
        assert caplog.messages == [f"Deleted keys were not checked: [Errno 21] Is a directory: '{file}'"]
        assert ApiKey.objects.active().count() == 1

    def test_while_the_database_does_not_answer_it_is_tried_again(self, file: Path) -> None:
        deletions = Deletions()

        def broken(*args: Any) -> Any:
            raise DatabaseError

        with connection.execute_wrapper(broken), pytest.raises(DatabaseError):
            deletions.complete()
        deletions.complete()
        assert deletions.since


def test_where_it_cannot_be_written_the_console_is_not_ready(db: None, settings: Any, tmp_path: Path) -> None:
    settings.DELETED_KEYS_FILE = tmp_path / "none" / "deleted-keys"
    assert Client().get("/readyz").status_code == 200
    tmp_path.chmod(0o555)
    for parent in list(tmp_path.parents)[:3]:
        parent.chmod(0o755)
    with as_another_user():
        assert storage.deletions_problem() == "the file of deleted keys is not writable"
