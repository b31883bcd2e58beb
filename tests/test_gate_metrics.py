"""The gate's metrics: of all workers together, whichever is asked."""

from pathlib import Path

import pytest

from apikeys.keys import format as keyformat
from tests.support.gates import Gate, GateInProcess, new_key
from tests.support.waiting import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


def test_metrics_have_a_path_of_their_own(tmp_path: Path, transactional_db: None) -> None:
    with GateInProcess(tmp_path) as gate:
        status, headers, body = gate.ask(path=b"/metrics?x")
        assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4")
        assert body.startswith(b"# HELP gate_calls_total") and b"\ngate_metering_files 0\n" in body
        assert gate.ask(path=b"/METRICS")[0] == 404


def metrics(gate: Gate) -> dict[str, float]:
    text = gate.ask(path=b"/metrics")[2].decode()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if line[0] != "#"}


@pytest.mark.no_mutants
def test_metrics_are_of_all_workers(gate: Gate) -> None:
    secret, (revoked, deleted) = new_key()[1], new_key()
    revoked.revoke()
    before = metrics(gate)
    for sent in (secret, secret, secret, deleted, keyformat.new_secret(), "nonsense", ""):
        gate.status(sent)
    for worker in gate.workers():
        gate.kill_worker(worker)
    wait_for(lambda: gate.answers())
    after = metrics(gate)
    grown = {name[25:-2]: after[name] - before[name] for name in after if name.startswith("gate_calls_total{")}
    assert {name: grown[name] for name in ("accepted", "deleted", "unknown", "malformed", "unavailable")} == {
        "accepted": 3,
        "deleted": 1,
        "unknown": 1,
        "malformed": 1,
        "unavailable": 0,
    }
    assert grown["missing"] >= 2 and grown["other"] >= 1
    assert after["gate_call_seconds_count"] == after['gate_call_seconds_bucket{le="+Inf"}'] > 8
    assert 0 < after["gate_call_seconds_sum"] < 60


@pytest.mark.no_mutants
def test_metrics_show_how_far_counting_lags(tmp_path: Path, transactional_db: None) -> None:
    secret = new_key()[1]
    with Gate(tmp_path, METERING_SECONDS="60") as gate:
        folded = tmp_path / "metering" / "0-0.calls"
        folded.symlink_to("removed-meanwhile")
        assert metrics(gate)["gate_metering_files"] == metrics(gate)["gate_metering_lag_seconds"] == 0
        folded.unlink()
        gate.status(secret)
        wait_for(lambda: metrics(gate)["gate_metering_lag_seconds"] > 0)
        assert metrics(gate)["gate_metering_files"] == 1
    assert not (tmp_path / "metering").exists() or not [*(tmp_path / "metering").iterdir()]
