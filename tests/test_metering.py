"""Every accepted call is counted once, whatever is killed."""

import asyncio
import fcntl
import os
import random
import signal
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine
from django.core.management import call_command
from django.db import DatabaseError
from pytest_django import Settings

from apikeys.management.commands import meter
from apikeys.metering import counter as metering
from apikeys.metering.counter import CallCounter, packed, read_calls, unpacked
from apikeys.metering.fold import fold, fold_all
from apikeys.models import ApiKey, FoldedFile, Usage
from tests.support.gates import Callers, Gate, new_key
from tests.support.person import wait_for

NOON = datetime(2026, 6, 1, 12, 0, 5, tzinfo=UTC)


@pytest.fixture
def folder(settings: Settings, tmp_path: Path) -> Path:
    settings.METERING_DIR = tmp_path / "metering"
    return tmp_path / "metering"


def counted(key: ApiKey) -> tuple[int, int]:
    rows = Usage.objects.filter(key=key).values_list("accepted", "refused")
    return sum(row[0] for row in rows), sum(row[1] for row in rows)


@pytest.mark.django_db(transaction=True)
def test_nothing_is_lost_or_counted_twice_when_workers_and_the_writer_are_killed(folder: Path, tmp_path: Path) -> None:
    """At least 50 workers are killed with -9 under load, at random moments, and the process that folds as well.

    A call is counted before its answer is sent: a worker that is killed between the two leaves a call that was
    counted and not answered. Each caller has a key of its own and knows which of its calls got no answer.
    """
    made = [new_key() for _ in range(8)]
    kills, chance = 0, random.Random(7)
    with Gate(tmp_path, workers=3) as gate:
        callers = Callers(gate.port, [secret for _, secret in made])
        thread = threading.Thread(target=lambda: asyncio.run(callers.run()))
        thread.start()
        try:
            while kills < 50:
                before = callers.accepted.total()
                some = chance.randrange(20, 400)
                wait_for(lambda: callers.accepted.total() > before + some)  # noqa: B023
                workers = gate.workers()
                kills += bool(workers) and gate.kill_worker(chance.choice(workers))
                if kills % 5 == 0:
                    gate.kill_meter()
        finally:
            callers.stopped = True
            thread.join()
    fold_all()
    assert not list(folder.glob("*.calls"))
    assert callers.accepted.total() > 50 * 20
    for key, secret in made:
        assert callers.accepted[secret] <= counted(key)[0] <= callers.accepted[secret] + callers.cut[secret]
    surplus = sum(counted(key)[0] for key, _ in made) - callers.accepted.total()
    assert 0 <= surplus <= callers.cut.total()


@pytest.mark.django_db(transaction=True)
def test_counts_equal_answers_to_the_last_call_over_kills_between_calls_and_restarts(
    folder: Path, tmp_path: Path
) -> None:
    """With no call under way when the -9 falls, and over stops and starts under load, the two are equal."""
    made = [new_key() for _ in range(4)]
    callers = Callers(0, [secret for _, secret in made])
    for stop_under_load in (False, False, True, True):
        with Gate(tmp_path) as gate:
            callers.port, callers.stopped = gate.port, False
            thread = threading.Thread(target=lambda: asyncio.run(callers.run()))
            thread.start()
            before = callers.accepted.total()
            wait_for(lambda: callers.accepted.total() > before + 500)  # noqa: B023
            if stop_under_load:
                gate.master.terminate()
                gate.master.wait(60)
            callers.stopped = True
            thread.join()
            for worker in gate.workers():
                gate.kill_worker(worker)
    fold_all()
    assert [counted(key)[0] for key, _ in made] == [callers.accepted[secret] for _, secret in made]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("step", ["before the commit", "after the commit"])
def test_a_writer_that_dies_between_its_steps_applies_a_file_once(
    folder: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, _ = new_key()
    counter = CallCounter(folder)
    for _ in range(3):
        counter.count(key.id.bytes, True, "192.0.2.1")
    counter.close()

    class Died(BaseException):
        pass

    def die(*args: object) -> None:
        raise Died

    with monkeypatch.context() as patch, pytest.raises(Died):
        if step == "before the commit":
            patch.setattr("apikeys.metering.fold.add", die)
        else:
            patch.setattr(Path, "unlink", die)
        fold_all()
    assert counted(key) == ((3, 0) if step == "after the commit" else (0, 0))
    fold_all()
    fold_all()
    assert counted(key) == (3, 0)
    assert not list(folder.iterdir())


def refuse(*words: object) -> None:
    raise OSError("read-only")


@pytest.mark.django_db(transaction=True)
class TestFolding:
    def test_a_file_whose_worker_lives_is_left_alone(self, folder: Path) -> None:
        key, _ = new_key()
        counter = CallCounter(folder)
        counter.count(key.id.bytes, True, "192.0.2.1")
        assert fold_all() == 0
        counter.close()
        assert fold_all() == 1
        assert counted(key) == (1, 0)

    def test_hours_accepted_and_refused_are_apart_and_the_last_call_is_kept(self, folder: Path) -> None:
        key, _ = new_key()
        counter = CallCounter(folder)
        with time_machine.travel(NOON, tick=False) as clock:
            counter.count(key.id.bytes, True, "192.0.2.1")
            counter.count(key.id.bytes, False, "192.0.2.9")
            clock.shift(3600)
            counter.count(key.id.bytes, True, "2001:db8::1")
        counter.close()
        fold_all()
        rows = Usage.objects.order_by("hour").values_list("hour__hour", "accepted", "refused")
        assert list(rows) == [(12, 1, 1), (13, 1, 0)]
        assert key.last_call
        assert (key.last_call.last_call_at, key.last_call.last_call_from) == (NOON.replace(hour=13), "2001:db8::1")

    def test_the_last_call_is_written_at_most_once_a_minute(self, folder: Path) -> None:
        key, _ = new_key()
        with time_machine.travel(NOON, tick=False) as clock:
            for seconds, kept in ((0, 0), (59, 0), (1, 60)):
                clock.shift(seconds)
                counter = CallCounter(folder)
                counter.count(key.id.bytes, True, "no address" if seconds else "192.0.2.1")
                counter.close()
                fold_all()
                last = key.usage.get()
                assert last.last_call_at and (last.last_call_at - NOON).total_seconds() == kept
        assert last.last_call_from is None

    def test_more_keys_than_a_file_holds_go_to_the_next(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(metering, "SLOTS", 4)
        counter = CallCounter(folder)
        keys = [new_key()[0] for _ in range(7)]
        for key in keys:
            counter.count(key.id.bytes, True, "192.0.2.1")
        counter.close()
        assert fold_all() == 3
        assert [counted(key) for key in keys] == [(1, 0)] * 7

    def test_a_file_whose_worker_died_before_its_first_count_is_empty(self, folder: Path) -> None:
        counter = CallCounter(folder)
        counter.open(hour=1)
        counter.close()
        assert fold_all() == 1 and not Usage.objects.exists() and not [*folder.iterdir()]

    def test_another_file_is_set_aside(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "x.calls").write_text("nonsense")
        assert fold_all() == 0
        assert [path.name for path in folder.iterdir()] == ["x.bad"]

    def test_a_damaged_file_that_cannot_be_set_aside_stops_no_other(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        (key, _), counter = new_key(), CallCounter(folder)
        counter.count(key.id.bytes, True, "192.0.2.1")
        counter.close()
        (folder / "0.calls").write_text("nonsense")

        monkeypatch.setattr(Path, "rename", refuse)
        assert fold_all() == 1 and counted(key) == (1, 0)
        assert "0.calls wait to be counted" in caplog.text and (folder / "0.calls").exists()

    def test_a_damaged_file_is_set_aside_and_the_others_are_folded(
        self, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (key, _), counter = new_key(), CallCounter(folder)
        for name in ("a-cut", "b-time", "b-count", "b" * 40, "c-good"):
            counter.count(key.id.bytes, True, "192.0.2.1")
            counter.close()
            (path,) = [path for path in folder.iterdir() if len(path.stem) == 32]
            path.rename(folder / f"{name}.calls")
        cut, late = folder / "a-cut.calls", folder / "b-time.calls"
        cut.write_bytes(cut.read_bytes()[:100])
        data = bytearray(late.read_bytes())
        data[64 + 32 : 64 + 40] = b"\xff" * 8
        late.write_bytes(data)
        many = folder / "b-count.calls"
        data = bytearray(many.read_bytes())
        data[64 + 16 : 64 + 24] = b"\xff" * 8
        many.write_bytes(data)
        (folder / "d-unreadable.calls").mkdir()
        assert fold_all() == 1 and counted(key) == (1, 0)
        assert sorted(path.name for path in folder.iterdir()) == [
            "a-cut.bad",
            "b-count.bad",
            "b-time.bad",
            f"{'b' * 40}.bad",
            "d-unreadable.calls",
        ]
        assert "d-unreadable.calls wait to be counted, it cannot be read" in caplog.text

    def test_a_file_that_cannot_be_removed_counts_once(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        (key, _), counter = new_key(), CallCounter(folder)
        counter.count(key.id.bytes, True, "192.0.2.1")
        counter.close()

        with monkeypatch.context() as broken:
            broken.setattr(Path, "unlink", refuse)
            assert (fold_all(), fold_all()) == (1, 0) and "cannot be removed: read-only" in caplog.text
        assert (fold_all(), counted(key), [*folder.iterdir()]) == (0, (1, 0), [])

    def test_calls_of_one_key_in_many_files_are_added_up(self, folder: Path) -> None:
        """Folded together or not, and the last call is the latest of them all."""
        (key, _), counter = new_key(), CallCounter(folder)
        for number in range(20):
            with time_machine.travel(NOON + timedelta(minutes=number % 7), tick=False):
                counter.count(key.id.bytes, number % 4 > 0, f"192.0.2.{number % 7}")
            counter.close()
        assert fold_all() == 20 and counted(key) == (15, 5)
        usage = Usage.objects.get(key=key)
        assert (usage.last_call_at, usage.last_call_from) == (NOON + timedelta(minutes=6), "192.0.2.6")

    def test_a_file_that_never_became_one_is_cleared_away(self, folder: Path) -> None:
        folder.mkdir()
        for name, age in (("old.new", 4000), ("young.new", 0)):
            (folder / name).touch()
            os.utime(folder / name, (time.time() - age,) * 2)
        fold_all()
        assert [path.name for path in folder.iterdir()] == ["young.new"]

    def test_what_cannot_be_counted_stays_refused(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        counter = CallCounter(folder)

        with monkeypatch.context() as broken:
            broken.setattr(Path, "rename", refuse)
            broken.setattr(Path, "unlink", refuse)
            for _ in range(3):
                with pytest.raises(OSError, match="read-only"):
                    counter.count(b"k" * 16, True, "192.0.2.1")
        counter.count(b"k" * 16, True, "192.0.2.1")
        counter.close()

    def test_two_writers_do_not_meet(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        counter = CallCounter(folder)
        counter.count(new_key()[0].id.bytes, True, "192.0.2.1")
        counter.close()
        (path,) = folder.iterdir()
        monkeypatch.setattr(fcntl, "flock", lambda *_: path.unlink())  # the other was just faster
        assert not fold([path])
        assert not fold([path])

    def test_old_names_are_forgotten(self, folder: Path) -> None:
        with time_machine.travel(NOON, tick=False):
            FoldedFile.objects.create(name="old")
        fold_all()
        assert not FoldedFile.objects.exists()

    def test_without_the_database_calls_wait(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        key, _ = new_key()
        counter = CallCounter(folder)
        counter.count(key.id.bytes, True, "192.0.2.1")
        counter.close()
        turns = iter([False, True])  # the second time it is told to stop
        answers = iter([DatabaseError("gone"), None])

        def fail_once() -> int:
            if error := next(answers):
                raise error
            return fold_all()

        monkeypatch.setattr(meter, "fold_all", fail_once)
        monkeypatch.setattr(threading.Event, "wait", lambda *_: next(turns))
        monkeypatch.setattr(signal, "signal", lambda *_: None)
        monkeypatch.setattr(os, "nice", lambda *_: None)
        call_command("meter")
        assert counted(key) == (1, 0)

    def test_the_command_folds_once(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        call_command("meter", "--once")
        assert capsys.readouterr().out == "0 files folded\n"


def test_a_full_disk_is_an_error_and_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    counter = CallCounter(folder)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(os, "posix_fallocate", full)
        counter.count(uuid.uuid4().bytes, True, "192.0.2.1")
    assert not list(folder.iterdir())
    counter.count(uuid.uuid4().bytes, True, "192.0.2.1")
    counter.close()
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "::1"])
def test_an_address_comes_back(address: str) -> None:
    assert unpacked(packed(address)) == address
    assert unpacked(packed("unix")) == ""


def test_a_file_full_of_keys_is_read_to_its_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metering, "SLOTS", 3)
    counter = CallCounter(folder)
    keys = [uuid.uuid4().bytes for _ in range(2)]
    for key in keys:
        counter.count(key, False, "")
    counter.close()
    (path,) = folder.iterdir()
    assert read_calls(path.read_bytes())[1] == [(key, 0, 1, 0, bytes(16)) for key in keys]
