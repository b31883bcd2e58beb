"""What the gate answers, on the database that the tests run on."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from apikeys.keys import format as keyformat
from apikeys.models import ApiKey
from tests.support.gates import TOKEN, Gate, GateHere, new_key, refusal
from tests.support.person import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(params=[pytest.param(Gate, marks=pytest.mark.no_mutants), GateHere], ids=["at its port", "here"])
def asked(request: pytest.FixtureRequest, tmp_path: Path, transactional_db: None) -> Iterator[Gate | GateHere]:
    with request.param(tmp_path, TRUSTED_PROXIES="127.0.0.1") as gate:
        yield gate


def test_it_answers_what_the_contract_says(asked: Gate | GateHere) -> None:
    key, secret = new_key()
    sent = secret.encode()
    for method in (b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"):
        status, headers, body = asked.ask(TOKEN + sent, method=method)
        assert (status, body) == (200, b"")
        assert headers["x-account-id"] == str(key.account_id) and headers["x-api-key-id"] == str(key.id)
        assert "set-cookie" not in headers and "location" not in headers
        assert not any(name.startswith("access-control") for name in headers)
    for header in (b"Authorization: Bearer ", b"authorization: bearer ", b"AUTHORIZATION: bEARER   "):
        assert asked.ask(header + sent)[0] == 200
    absolute = (b"http://gate/verify", b"http://gate/verify/v1", b"http://gate/verify/http://other/x?y=/z")
    for path in (b"/verify?with=query", b"/verify/v1/collections", b"/verify?a=1?b", *absolute):
        assert asked.ask(TOKEN + sent, path=path)[0] == 200
    key.revoke()
    assert refusal(asked.ask(TOKEN + sent)) == "deleted"
    assert refusal(asked.ask(TOKEN + keyformat.new_secret().encode())) == "unknown"


def test_every_odd_header_has_its_answer(asked: Gate | GateHere) -> None:
    secret, other = (new_key()[1].encode() for _ in range(2))
    bearer = b"Authorization: Bearer "
    table: list[tuple[list[bytes], str]] = [
        ([], "missing"),
        ([TOKEN], "missing"),
        ([TOKEN + b"   "], "missing"),
        ([b"Authorization: Basic dXNlcjpwYXNz"], "missing"),
        ([b"Authorization: " + secret], "missing"),
        ([b"Authorization: Bearer"], "missing"),
        ([b"Authorization: Bearer     "], "missing"),
        ([TOKEN + secret + b"X"], "malformed"),
        ([TOKEN + b"sk-short"], "malformed"),
        ([TOKEN + secret[:-1] + b"-"], "malformed"),
        ([TOKEN + secret + b" " + secret], "malformed"),
        ([TOKEN + b"x" * 8192], "malformed"),
        ([TOKEN + secret[:-1] + b"\xe9"], "malformed"),
        ([TOKEN + "sk-é".encode()], "malformed"),
        ([TOKEN + secret, TOKEN + other], "malformed"),
        ([bearer + secret, bearer + other], "malformed"),
        ([TOKEN + b"garbage", bearer + secret], "malformed"),
    ]
    for headers, status in table:
        assert refusal(asked.ask(*headers)) == status, headers
    for headers in (
        [TOKEN, bearer + secret],
        [TOKEN + secret, TOKEN + secret],
        [TOKEN + b" \t" + secret + b"\t "],
        [TOKEN + secret, bearer + other],
    ):
        assert asked.ask(*headers)[0] == 200, headers
    for body in (asked.ask(TOKEN + secret[:-1] + b"-")[2], asked.ask(TOKEN + keyformat.new_secret().encode())[2]):
        assert b"sk-" not in body
    for path in (b"/other", b"/verifyother", b"/VERIFY", b"http://verify", b"http://gate/other"):
        code, found, body = asked.ask(TOKEN + secret, path=path)
        assert code == 404 and found["content-type"] == "application/json", path
        said = json.loads(body)
        assert said["code"] == 404 and said["message"] == "Ask /verify."


def test_metrics_are_at_an_address_of_their_own(asked: Gate | GateHere) -> None:
    status, headers, body = asked.ask(path=b"/metrics?x")
    assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4")
    assert body.startswith(b"# HELP gate_calls_total") and b"\ngate_metering_files 0\n" in body
    assert asked.ask(path=b"/METRICS")[0] == 404


def metrics(gate: Gate) -> dict[str, float]:
    text = gate.ask(path=b"/metrics")[2].decode()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if line[0] != "#"}


@pytest.mark.no_mutants
def test_its_metrics_are_of_all_workers(gate: Gate) -> None:
    secret, (gone, deleted) = new_key()[1], new_key()
    gone.revoke()
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
def test_its_metrics_tell_how_far_counting_lags(tmp_path: Path, transactional_db: None) -> None:
    secret = new_key()[1]
    with Gate(tmp_path, METERING_SECONDS="60") as gate:
        gone = tmp_path / "metering" / "0-0.calls"
        gone.symlink_to("folded-meanwhile")
        assert metrics(gate)["gate_metering_files"] == metrics(gate)["gate_metering_lag_seconds"] == 0
        gone.unlink()
        gate.status(secret)
        wait_for(lambda: metrics(gate)["gate_metering_lag_seconds"] > 0)
        assert metrics(gate)["gate_metering_files"] == 1
    assert not (tmp_path / "metering").exists() or not [*(tmp_path / "metering").iterdir()]


def test_the_callers_address_is_what_a_trusted_proxy_says(asked: Gate | GateHere, tmp_path: Path) -> None:
    key, secret = new_key()
    asked.ask(TOKEN + secret.encode(), b"X-Forwarded-For: 198.51.100.1, 198.51.100.2, 203.0.113.7")
    wait_for(lambda: ApiKey.objects.get(pk=key.pk).last_call, 10)
    assert key.usage.get().last_call_from == "203.0.113.7"
    untrusting, key_2, secret_2 = type(asked)(tmp_path / "second"), *new_key()
    with untrusting:
        untrusting.ask(TOKEN + secret_2.encode(), b"X-Forwarded-For: 203.0.113.7")
        wait_for(lambda: ApiKey.objects.get(pk=key_2.pk).last_call, 10)
    assert key_2.usage.get().last_call_from == "127.0.0.1"


@pytest.mark.no_mutants
def test_without_room_to_count_it_accepts_nothing(tmp_path: Path, transactional_db: None) -> None:
    secret = new_key()[1]
    with Gate(tmp_path, workers=1) as gate:  # a second one might start only now, and make the folder anew
        (tmp_path / "metering").rename(tmp_path / "elsewhere")
        wait_for(lambda: gate.status(secret) == 503)
        (tmp_path / "elsewhere").rename(tmp_path / "metering")
        wait_for(lambda: gate.status(secret) == 200)


def test_it_logs_why_it_cannot_count_and_again_after_some_time(
    tmp_path: Path, transactional_db: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = TOKEN + new_key()[1].encode()
    with GateHere(tmp_path) as gate:
        (tmp_path / "metering").rmdir()
        for _ in range(2):
            assert gate.ask(secret)[0] == 503
        (told,) = caplog.messages
        monkeypatch.setattr("apikeys.gate.app.TELL_SECONDS", 0)
        for _ in range(2):
            assert gate.ask(secret)[0] == 503
    assert len(caplog.messages) == 3
    assert told.startswith("Calls are answered 503: ") and "No such file or directory" in told
