"""The gate's metrics: of all workers together, whichever is asked."""

from pathlib import Path

import pytest

from apikeys.gate.call import NOT_FOUND, Answer, Call
from apikeys.gate.metrics import render
from apikeys.keys import format as keyformat
from tests.support.gates import Gate, GateInProcess, new_key
from tests.support.servers import free_port
from tests.support.waiting import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


def test_metrics_have_a_path_of_their_own(tmp_path: Path, transactional_db: None) -> None:
    with GateInProcess(tmp_path) as gate:
        (tmp_path / "metering" / "60000000.calls").touch()
        status, headers, body = gate.ask(path=b"/metrics?x")
        assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
        assert body.startswith(b"# HELP gate_calls_total") and b"\ngate_metering_files 1\n" in body
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
        for other in ("no-file-of-ours.calls", "60000000.new"):
            (tmp_path / "metering" / other).touch()
        assert metrics(gate)["gate_metering_files"] == metrics(gate)["gate_metering_lag_seconds"] == 0
        for other in ("no-file-of-ours.calls", "60000000.new"):
            (tmp_path / "metering" / other).unlink()
        gate.status(secret)

        def lags() -> bool:  # each worker looks at the folder once in a second
            found = metrics(gate)
            return found["gate_metering_files"] == 1 and 0 < found["gate_metering_lag_seconds"] < 60

        wait_for(lags)
    assert not (tmp_path / "metering").exists() or not [*(tmp_path / "metering").iterdir()]


def reads() -> int:
    """How often this process has read from anything."""
    (line,) = (line for line in Path("/proc/self/io").read_text().splitlines() if line.startswith("syscr:"))
    return int(line.split()[1])


def test_who_scrapes_without_end_makes_the_gate_read_no_more(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / f"{1_700_000_000 + number:08x}{number:024}.calls").write_bytes(bytes(64))
    before = reads()
    for _ in range(50):
        body = render(tmp_path)
    assert reads() - before < 200
    assert b"\ngate_metering_files 200\n" in body
    tmp_path.rename(tmp_path.with_name("elsewhere"))
    wait_for(lambda: b"\ngate_metering_files 0\n" in render(tmp_path))


def test_what_is_at_a_port_of_its_own_is_not_at_the_gates(tmp_path: Path, transactional_db: None) -> None:
    def scrape(path: bytes) -> Answer:
        answers: list[Answer] = []
        gate.gate.handle_scrape(Call(path, [], "127.0.0.1"), answers.append)
        return answers.pop()

    with GateInProcess(tmp_path, metrics_port=1) as gate:
        assert gate.ask(path=b"/metrics")[0] == 404
        (tmp_path / "metering" / "60000000.calls").touch()
        assert scrape(b"/metrics?x").body.startswith(b"# HELP gate_calls_total")
        assert b"\ngate_metering_files 1\n" in scrape(b"/metrics").body
        refused = scrape(b"/verify")
        assert refused.status == NOT_FOUND and b'"Only the metrics are here, at /metrics."' in refused.body


@pytest.mark.no_mutants
def test_a_port_of_its_own_has_them_alone(tmp_path: Path, transactional_db: None) -> None:
    port = free_port()
    with Gate(tmp_path, GATE_METRICS_PORT=str(port)) as gate:
        assert gate.ask(path=b"/metrics")[0] == 404 and gate.ask(path=b"/readyz")[0] == 200
        gate.port, at_the_gate = port, gate.port
        assert metrics(gate)["gate_metering_files"] >= 0
        assert [gate.ask(path=path)[0] for path in (b"/verify", b"/healthz", b"/")] == [404] * 3
        gate.port = at_the_gate
