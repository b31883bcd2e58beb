"""Every accepted call is counted once, whatever is killed."""

import asyncio
import os
import random
import threading
import uuid
from pathlib import Path

import pytest

from apikeys.metering import counter as metering
from apikeys.metering.counter import CallCounter, pack_address, read_calls, unpack_address
from tests.support.gates import Callers, Gate, counted, fold_files, new_key
from tests.support.waiting import wait_for

ADDRESS = pack_address("192.0.2.1")


@pytest.mark.django_db(transaction=True)
def test_nothing_is_lost_or_counted_twice_when_workers_and_the_writer_are_killed(tmp_path: Path) -> None:
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
    fold_files(tmp_path / "metering")
    assert not list((tmp_path / "metering").glob("*.calls"))
    assert callers.accepted.total() > 50 * 20
    for key, secret in made:
        assert callers.accepted[secret] <= counted(key)[0] <= callers.accepted[secret] + callers.cut[secret]
    surplus = sum(counted(key)[0] for key, _ in made) - callers.accepted.total()
    assert 0 <= surplus <= callers.cut.total()


@pytest.mark.django_db(transaction=True)
def test_counts_equal_answers_to_the_last_call_over_kills_between_calls_and_restarts(tmp_path: Path) -> None:
    """With no call in progress when the -9 comes, and over stops and starts under load, the two are equal."""
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
    fold_files(tmp_path / "metering")
    assert [counted(key)[0] for key, _ in made] == [callers.accepted[secret] for _, secret in made]


def test_what_cannot_be_counted_stays_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*words: object) -> None:
        raise OSError("read-only")

    counter = CallCounter(tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr(Path, "rename", refuse)
        broken.setattr(Path, "unlink", refuse)
        for _ in range(3):
            with pytest.raises(OSError, match="read-only"):
                counter.count(b"k" * 16, True, ADDRESS)
    counter.count(b"k" * 16, True, ADDRESS)
    counter.close()


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    counter = CallCounter(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(os, "posix_fallocate", full)
        counter.count(uuid.uuid4().bytes, True, ADDRESS)
    assert not list(tmp_path.iterdir())
    counter.count(uuid.uuid4().bytes, True, ADDRESS)
    counter.close()
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "::1"])
def test_an_address_survives_packing(address: str) -> None:
    assert unpack_address(pack_address(address)) == address
    assert unpack_address(pack_address("")) == ""


def test_a_file_full_of_keys_is_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metering, "SLOTS", 3)
    counter = CallCounter(tmp_path)
    keys = [uuid.uuid4().bytes for _ in range(2)]
    for key in keys:
        counter.count(key, False, bytes(16))
    counter.close()
    (path,) = tmp_path.iterdir()
    assert read_calls(path.read_bytes())[1] == [(key, 0, 1, 0, bytes(16)) for key in keys]
