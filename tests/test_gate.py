"""What the gate answers, over HTTP and in process."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine
from django.utils import timezone

from apikeys.keys import format as keyformat
from apikeys.models import ApiKey
from tests.support.gates import TOKEN, Gate, GateInProcess, counted, fold_files, new_key, refusal
from tests.support.waiting import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(
    params=[pytest.param(Gate, marks=pytest.mark.no_mutants), GateInProcess], ids=["over HTTP", "in process"]
)
def asked(request: pytest.FixtureRequest, tmp_path: Path, transactional_db: None) -> Iterator[Gate | GateInProcess]:
    with request.param(tmp_path, TRUSTED_PROXIES="127.0.0.1") as gate:
        yield gate


def test_it_answers_what_the_contract_says(asked: Gate | GateInProcess) -> None:
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
    assert refusal(asked.ask(TOKEN + keyformat.new_secret().encode())) == "unknown"


NOW = timezone.now()
PAST, FUTURE = NOW - timedelta(microseconds=1), NOW + timedelta(days=1)
DELETED: dict[str, object] = {"deleted_at": PAST, "sealed_secret": None}
STATUSES: list[tuple[dict[str, object], str]] = [
    ({"expires_at": FUTURE}, "active"),
    ({"expires_at": PAST}, "expired"),
    ({"disabled_at": PAST}, "disabled"),
    ({"account_disabled": True}, "disabled"),
    ({"disabled_at": PAST, "expires_at": PAST}, "disabled"),
    (DELETED, "deleted"),
    (DELETED | {"disabled_at": PAST, "account_disabled": True, "expires_at": PAST}, "deleted"),
]


def test_each_status_has_its_answer_and_is_counted(asked: Gate | GateInProcess) -> None:
    for fields, status in STATUSES:
        key, secret = new_key()
        ApiKey.objects.filter(pk=key.pk).update(**fields)
        answer = asked.ask(TOKEN + secret.encode())
        assert answer[0] == 200 if status == "active" else refusal(answer) == status, fields
        if isinstance(asked, GateInProcess):
            asked.gate.counter.close()
            fold_files(asked.configuration.metering_dir)
            assert counted(key) == ((1, 0) if status == "active" else (0, 1)), fields


def test_a_key_is_refused_from_the_instant_of_its_expiry(tmp_path: Path, transactional_db: None) -> None:
    key, secret = new_key()
    expiry = datetime(2026, 6, 1, 12, 0, 0, 250_000, tzinfo=UTC)
    ApiKey.objects.filter(pk=key.pk).update(expires_at=expiry)
    with GateInProcess(tmp_path) as gate:
        for moment, status in ((-1, 200), (0, 401), (1, 401)):
            with time_machine.travel(expiry + timedelta(milliseconds=moment), tick=False):
                assert gate.ask(TOKEN + secret.encode())[0] == status


def test_every_unusual_header_has_its_answer(asked: Gate | GateInProcess) -> None:
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
        assert said["code"] == 404 and said["message"] == "The gate answers at /verify."


FORWARDED = b"X-Forwarded-For: "
CALLERS: list[tuple[list[bytes], str, str]] = [  # what a proxy sends, its address, the caller's
    ([FORWARDED + b"198.51.100.1, 198.51.100.2, 203.0.113.7"], "10.1.2.3", "203.0.113.7"),
    ([FORWARDED + b"198.51.100.1, " * 50 + b"203.0.113.7"], "10.1.2.3", "203.0.113.7"),
    ([FORWARDED + b"203.0.113.9:4711"], "10.1.2.3", "203.0.113.9"),
    ([FORWARDED + b"[2001:db8::1]:4711"], "10.1.2.3", "2001:db8::1"),
    ([FORWARDED + b'"[2001:db8::1]"'], "10.1.2.3", "2001:db8::1"),
    ([FORWARDED + b"fe80::1%eth0"], "10.1.2.3", "fe80::1"),
    ([FORWARDED + b"203.0.113.1", FORWARDED + b"203.0.113.2"], "10.1.2.3", "203.0.113.2"),
    ([FORWARDED + b"203.0.113.9"], "::ffff:10.1.2.3", "203.0.113.9"),
    ([FORWARDED + b"203.0.113.9"], "unix", "203.0.113.9"),
    ([FORWARDED + b"nobody"], "10.1.2.3", "10.1.2.3"),
    ([FORWARDED + b"1" * 8000], "10.1.2.3", "10.1.2.3"),
    ([FORWARDED + b"\xff"], "10.1.2.3", "10.1.2.3"),
    ([FORWARDED], "10.1.2.3", "10.1.2.3"),
    ([], "10.1.2.3", "10.1.2.3"),
    ([FORWARDED + b"203.0.113.9"], "192.0.2.1", "192.0.2.1"),  # not a trusted proxy
    ([], "unix", ""),
]


def test_a_trusted_proxy_names_the_caller(tmp_path: Path, transactional_db: None) -> None:
    with GateInProcess(tmp_path, TRUSTED_PROXIES="10.0.0.0/8,unix") as gate:
        for headers, peer, caller in CALLERS:
            key, secret = new_key()
            assert gate.ask(TOKEN + secret.encode(), *headers, peer=peer)[0] == 200
            assert (key.usage.get().last_call_from or "") == caller, (headers, peer)


@pytest.mark.no_mutants
def test_without_trusted_proxies_the_connection_names_the_caller(tmp_path: Path, transactional_db: None) -> None:
    key, secret = new_key()
    with Gate(tmp_path) as gate:
        assert gate.ask(TOKEN + secret.encode(), FORWARDED + b"203.0.113.7")[0] == 200
        wait_for(lambda: ApiKey.objects.get(pk=key.pk).last_call, 10)
    assert key.usage.get().last_call_from == "127.0.0.1"


@pytest.mark.no_mutants
def test_while_it_cannot_count_it_accepts_nothing(tmp_path: Path, transactional_db: None) -> None:
    secret = new_key()[1]
    with Gate(tmp_path, workers=1) as gate:  # a second one might start late and create the folder again
        (tmp_path / "metering").rename(tmp_path / "elsewhere")
        wait_for(lambda: gate.status(secret) == 503)
        (tmp_path / "elsewhere").rename(tmp_path / "metering")
        wait_for(lambda: gate.status(secret) == 200)


def test_it_logs_why_it_cannot_count_and_again_after_some_time(
    tmp_path: Path, transactional_db: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = TOKEN + new_key()[1].encode()
    with GateInProcess(tmp_path) as gate:
        (tmp_path / "metering").rmdir()
        for _ in range(2):
            assert gate.ask(secret)[0] == 503
        (logged,) = caplog.messages
        monkeypatch.setattr("apikeys.gate.app.LOG_SECONDS", 0)
        for _ in range(2):
            assert gate.ask(secret)[0] == 503
    assert len(caplog.messages) == 3
    assert logged.startswith("Calls are answered 503: ") and "No such file or directory" in logged
