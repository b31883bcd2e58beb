"""What the gate's workers have counted reaches the database, each file once."""

import fcntl
import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine
from django.core.management import call_command
from django.db import DatabaseError
from pytest_django import Settings

from apikeys.management.commands import meter
from apikeys.metering import counter as metering
from apikeys.metering.counter import CallCounter, pack_address
from apikeys.metering.fold import Store, fold, fold_all
from apikeys.models import ApiKey, FoldedFile, Usage
from apikeys.usage.store import UsageStore
from console.background import Stop
from tests.support.gates import counted, fold_files, new_key

pytestmark = pytest.mark.django_db(transaction=True)
ADDRESS = pack_address("192.0.2.1")
NOON = datetime(2026, 6, 1, 12, 0, 5, tzinfo=UTC)


@pytest.fixture
def folder(settings: Settings, tmp_path: Path) -> Path:
    settings.METERING_DIR = tmp_path / "metering"
    settings.METERING_DIR.mkdir()
    return tmp_path / "metering"


@pytest.fixture
def key() -> ApiKey:
    return new_key()[0]


def count_one(folder: Path, key: ApiKey, accepted: bool = True, address: str = "192.0.2.1") -> Path:
    """A finished file with one call."""
    before = {*folder.iterdir()}
    counter = CallCounter(folder)
    counter.count(key.id.bytes, accepted, pack_address(address))
    counter.close()
    (path,) = {*folder.iterdir()} - before
    return path


def refuse(*words: object) -> None:
    raise OSError("read-only")


class Died(BaseException):
    pass


def die(*args: object) -> None:
    raise Died


@pytest.mark.parametrize("step", ["before the commit", "after the commit"])
def test_a_process_that_dies_between_its_steps_adds_a_file_once(
    folder: Path, key: ApiKey, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        count_one(folder, key)
    with monkeypatch.context() as patch, pytest.raises(Died):
        if step == "before the commit":
            patch.setattr("apikeys.usage.store.add_usage", die)
        else:
            patch.setattr(Path, "unlink", die)
        fold_files(folder)
    assert counted(key) == ((3, 0) if step == "after the commit" else (0, 0))
    fold_files(folder)
    fold_files(folder)
    assert counted(key) == (3, 0)
    assert not list(folder.iterdir())


def test_a_file_whose_worker_is_alive_is_left_alone(folder: Path, key: ApiKey) -> None:
    counter = CallCounter(folder)
    counter.count(key.id.bytes, True, ADDRESS)
    assert fold_files(folder) == 0
    counter.close()
    assert fold_files(folder) == 1
    assert counted(key) == (1, 0)


def test_hours_accepted_and_refused_are_apart_and_the_last_call_is_kept(folder: Path, key: ApiKey) -> None:
    counter = CallCounter(folder)
    with time_machine.travel(NOON, tick=False) as clock:
        counter.count(key.id.bytes, True, ADDRESS)
        counter.count(key.id.bytes, False, ADDRESS)
        clock.shift(3600)
        counter.count(key.id.bytes, True, pack_address("2001:db8::1"))
    counter.close()
    fold_files(folder)
    rows = Usage.objects.order_by("hour").values_list("hour__hour", "accepted", "refused")
    assert list(rows) == [(12, 1, 1), (13, 1, 0)]
    assert key.last_call
    assert (key.last_call.last_call_at, key.last_call.last_call_from) == (NOON.replace(hour=13), "2001:db8::1")


def test_the_last_call_is_written_at_most_once_a_minute(folder: Path, key: ApiKey) -> None:
    with time_machine.travel(NOON, tick=False) as clock:
        for seconds, kept in ((0, 0), (59, 0), (1, 60)):
            clock.shift(seconds)
            count_one(folder, key, address="unix" if seconds else "192.0.2.1")
            fold_files(folder)
            last = key.usage.get()
            assert last.last_call_at and (last.last_call_at - NOON).total_seconds() == kept
    assert last.last_call_from is None


def test_calls_of_one_key_in_many_files_are_summed(folder: Path, key: ApiKey) -> None:
    """In one batch and in several, and the last call is the latest of them all."""
    for number in range(20):
        with time_machine.travel(NOON + timedelta(minutes=number % 7), tick=False):
            count_one(folder, key, number % 4 > 0, f"192.0.2.{number % 7}")
    assert fold_files(folder) == 20 and counted(key) == (15, 5)
    usage = Usage.objects.get(key=key)
    assert (usage.last_call_at, usage.last_call_from) == (NOON + timedelta(minutes=6), "192.0.2.6")


def test_more_keys_than_a_file_holds_go_to_the_next(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metering, "SLOTS", 4)
    counter = CallCounter(folder)
    keys = [new_key()[0] for _ in range(7)]
    for key in keys:
        counter.count(key.id.bytes, True, ADDRESS)
    counter.close()
    assert fold_files(folder) == 3
    assert [counted(key) for key in keys] == [(1, 0)] * 7


def test_a_file_whose_worker_died_before_its_first_count_is_empty(folder: Path) -> None:
    counter = CallCounter(folder)
    counter.open(hour=1)
    counter.close()
    assert fold_files(folder) == 1 and not Usage.objects.exists() and not [*folder.iterdir()]


def overwrite(path: Path, place: int, data: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[place : place + len(data)] = data
    path.write_bytes(content)


DAMAGED: dict[str, Callable[[Path], object]] = {
    "text": lambda path: path.write_text("nonsense"),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "time": lambda path: overwrite(path, 64 + 32, b"\xff" * 8),
    "count": lambda path: overwrite(path, 64 + 16, b"\xff" * 8),
    "a-name-of-more-than-32-characters": lambda path: None,
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_renamed_and_the_others_are_folded(folder: Path, key: ApiKey, name: str) -> None:
    damaged = count_one(folder, key).rename(folder / f"{name}.calls")
    DAMAGED[name](damaged)
    count_one(folder, key)
    assert fold_files(folder) == 1 and counted(key) == (1, 0)
    assert [path.name for path in folder.iterdir()] == [f"{name}.bad"]


def test_a_damaged_file_that_cannot_be_renamed_stops_no_other(
    folder: Path, key: ApiKey, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    count_one(folder, key)
    (folder / "0.calls").write_text("nonsense")
    monkeypatch.setattr(Path, "rename", refuse)
    assert fold_files(folder) == 1 and counted(key) == (1, 0)
    assert "0.calls are not counted yet" in caplog.text and (folder / "0.calls").exists()


def test_a_file_that_cannot_be_read_waits_and_stops_no_other(
    folder: Path, key: ApiKey, caplog: pytest.LogCaptureFixture
) -> None:
    count_one(folder, key)
    (folder / "0.calls").mkdir()
    assert fold_files(folder) == 1 and counted(key) == (1, 0)
    assert "0.calls are not counted yet: the file cannot be read" in caplog.text and (folder / "0.calls").exists()


def test_a_file_that_cannot_be_removed_counts_once(
    folder: Path, key: ApiKey, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    count_one(folder, key)
    with monkeypatch.context() as broken:
        broken.setattr(Path, "unlink", refuse)
        assert (fold_files(folder), fold_files(folder)) == (1, 0) and "cannot be removed: read-only" in caplog.text
    assert (fold_files(folder), counted(key), [*folder.iterdir()]) == (0, (1, 0), [])


def test_a_file_that_was_never_finished_is_removed_after_an_hour(folder: Path) -> None:
    for name, age in (("old.new", 4000), ("young.new", 0)):
        (folder / name).touch()
        os.utime(folder / name, (time.time() - age,) * 2)
    fold_files(folder)
    assert [path.name for path in folder.iterdir()] == ["young.new"]


def test_two_processes_do_not_fold_the_same_file(folder: Path, key: ApiKey, monkeypatch: pytest.MonkeyPatch) -> None:
    path = count_one(folder, key)
    monkeypatch.setattr(fcntl, "flock", lambda *_: path.unlink())  # the other was just faster
    assert not fold([path], UsageStore())
    assert not fold([path], UsageStore())


def test_old_names_are_forgotten(folder: Path) -> None:
    with time_machine.travel(NOON, tick=False):
        FoldedFile.objects.create(name="old")
    fold_files(folder)
    assert not FoldedFile.objects.exists()


def test_without_the_database_files_wait(folder: Path, key: ApiKey, monkeypatch: pytest.MonkeyPatch) -> None:
    count_one(folder, key)
    turns = iter([False, True])  # after the second one it is to stop
    answers = iter([DatabaseError("gone"), None])

    def fail_once(folder: Path, store: Store) -> int:
        if error := next(answers):
            raise error
        return fold_all(folder, store)

    monkeypatch.setattr(meter, "fold_all", fail_once)
    monkeypatch.setattr(Stop, "wait", lambda *_: next(turns))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(os, "nice", lambda *_: None)
    call_command("meter")
    assert counted(key) == (1, 0)


def test_the_command_folds_once(folder: Path, key: ApiKey, capsys: pytest.CaptureFixture[str]) -> None:
    count_one(folder, key)
    call_command("meter", "--once")
    assert capsys.readouterr().out == "1 files folded\n"
