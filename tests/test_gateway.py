"""What a gateway makes of the gate: the real nginx with deploy/nginx.conf before stand-ins of the service, called by
the service's own SDK."""

import contextlib
import json
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from apikeys.gate.policy import MESSAGES
from apikeys.keys import format as keyformat
from apikeys.keys.status import Status
from tests.support.gates import Gate
from tests.support.nginx import Gateway, clean, program
from tests.support.person import Person
from tests.support.servers import ROOT, Server, free_port, installed, running
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.gateway, pytest.mark.once]
NGINX_FOLDERS = ("body", "proxy", "fastcgi", "scgi", "uwsgi")
PROTOCOLS = ("HTTP", "GRPC")
UNAUTHENTICATED = {"HTTP": 401, "GRPC": 16}
UNAVAILABLE = {"HTTP": 503, "GRPC": 14}


@contextlib.contextmanager
def upstream(output: Path, python: str, module: str) -> Iterator[int]:
    """A stand-in of the service; its port, which is the first line that it prints."""
    with program(output, python, "-m", module) as process:
        wait_for(lambda: "\n" in output.read_text() or process.poll() is not None)
        assert process.returncode is None, output.read_text()
        yield int(output.read_text().split()[0])


class Sdk:
    """tests/support/sdk_client.py, running."""

    def __init__(self, python: str) -> None:
        environment = clean(DASHVECTOR_INSECURE_MODE="true")
        pipe = subprocess.PIPE
        command = [python, str(ROOT / "tests" / "support" / "sdk_client.py")]
        self.process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)

    def __enter__(self) -> "Sdk":
        return self

    def __exit__(self, *args: object) -> None:
        self.process.communicate(timeout=20)  # ends with its input

    def tell(self, **line: str) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(line) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def make(self, gateway: Gateway, protocol: str, key: str) -> dict[str, Any]:
        return self.tell(api_key=key, endpoint=f"127.0.0.1:{gateway.ports[protocol]}", protocol=protocol)

    def collections(self) -> dict[str, Any]:
        return self.tell()


@pytest.fixture(scope="session")
def sdk_python() -> str:
    """The Python of a virtual environment that has the SDK, which pins packages too old for ours."""
    return installed(".venv-sdk", ROOT / "tests" / "support" / "sdk-requirements.txt")


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("product") / "data", TRUSTED_PROXIES="127.0.0.1") as started:
        yield started


@pytest.fixture(scope="module")
def owner(product: Server) -> Iterator[Person]:
    with Person(product.address) as person:
        yield person.log_on()


@pytest.fixture(scope="module")
def upstreams(sdk_python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int, Path]]:
    """The ports of the HTTP and of the gRPC upstream, and what the second prints of the calls that it gets."""
    folder = tmp_path_factory.mktemp("upstreams")
    over_http = upstream(folder / "http", sys.executable, "tests.support.upstream")
    over_grpc = upstream(folder / "grpc", sdk_python, "tests.support.grpc_upstream")
    with over_http as http_port, over_grpc as grpc_port:
        yield http_port, grpc_port, folder / "grpc"


@pytest.fixture(scope="module")
def gateway(
    product: Server, upstreams: tuple[int, int, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("gateway") / "nginx"
    with Gateway(folder, product.gate_port, *upstreams[:2]).serving() as started:
        yield started


def seen(upstreams: tuple[int, int, Path], protocol: str) -> list[dict[str, str]]:
    """The headers of the calls that reached the service."""
    http_port, _, printed = upstreams
    if protocol == "GRPC":
        return [json.loads(line) for line in printed.read_text().splitlines()[1:]]
    calls: list[dict[str, str]] = httpx.get(f"http://127.0.0.1:{http_port}/seen").json()
    return calls


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_sdk_works_until_its_key_is_deleted(
    protocol: str, owner: Person, gateway: Gateway, upstreams: tuple[int, int, Path], sdk_python: str
) -> None:
    key_id, secret = owner.create()
    before = len(seen(upstreams, protocol))
    with Sdk(sdk_python) as sdk:
        made = sdk.make(gateway, protocol, secret)
        assert made["good"] and made["code"] == 0, made
        listed = sdk.collections()
        assert (listed["code"], listed["output"]) == (0, []), listed
        assert owner.delete(key_id).status_code == 200
        refused = sdk.collections()
        assert refused["code"] == UNAUTHENTICATED[protocol], refused
        if protocol == "GRPC":
            assert uuid.UUID(refused["id"])
        assert sdk.collections()["code"] == UNAUTHENTICATED[protocol]
        assert not sdk.make(gateway, protocol, secret)["good"]
    calls = seen(upstreams, protocol)[before:]
    assert len(calls) == 2, "the service gets the calls that the gate accepted, and no other"
    for call in calls:
        assert call["x-api-key-id"] == key_id and call["x-account-id"]
        assert "dashvector-auth-token" not in call and "authorization" not in call
        assert secret not in json.dumps(call)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_sdk_is_told_that_its_key_is_unknown(protocol: str, gateway: Gateway, sdk_python: str) -> None:
    with Sdk(sdk_python) as sdk:
        refused = sdk.make(gateway, protocol, keyformat.new_secret())
        assert (refused["good"], refused["code"]) == (False, UNAUTHENTICATED[protocol])


def test_the_service_gets_the_account_and_nothing_that_the_caller_forged(
    owner: Person, gateway: Gateway, upstreams: tuple[int, int, Path]
) -> None:
    key_id, secret = owner.create()
    forged = {
        "X-Account-Id": "forged",
        "X-Api-Key-Id": "forged",
        "X_Account_Id": "forged",
        "X-Forwarded-For": "203.0.113.9",
    }
    accounts = set()
    for sent in ({"dashvector-auth-token": secret}, {"Authorization": f"Bearer {secret}"}):
        assert gateway.call("/service_version", headers=sent | forged).json()["code"] == 0
        call = seen(upstreams, "HTTP")[-1]
        assert secret not in json.dumps(call) and "forged" not in json.dumps(call)
        assert call["x-api-key-id"] == key_id and call["x-forwarded-for"] == "127.0.0.5"
        accounts.add(call["x-account-id"])
    assert len(accounts) == 1
    both = {"dashvector-auth-token": secret, "Authorization": "Bearer another"}
    assert gateway.call(method="POST", headers=both, content=b"x" * 300_000).status_code == 200
    assert "authorization" not in seen(upstreams, "HTTP")[-1]
    wait_for(lambda: "127.0.0.5" in owner.http.get("/api-keys/").text)
    assert "203.0.113.9" not in owner.http.get("/api-keys/").text
    assert owner.delete(key_id).status_code == 200
    assert gateway.call(headers={"dashvector-auth-token": secret}).headers["x-api-key-status"] == "deleted"


def test_a_refusal_says_why_in_the_form_of_the_service(gateway: Gateway, upstreams: tuple[int, int, Path]) -> None:
    before = len(seen(upstreams, "HTTP"))
    table: list[tuple[dict[str, str], Status]] = [
        ({}, Status.MISSING),
        ({"dashvector-auth-token": "sk-short"}, Status.MALFORMED),
        ({"dashvector-auth-token": keyformat.new_secret()}, Status.UNKNOWN),
    ]
    for headers, status in table:
        answer = gateway.call(headers=headers, method="POST", content=b"{}")
        assert answer.status_code == 401 and answer.headers["content-type"] == "application/json"
        assert answer.headers["x-api-key-status"] == status and answer.headers["www-authenticate"] == "Bearer"
        said = answer.json()
        assert uuid.UUID(said.pop("request_id")) and said == {"code": 401, "message": MESSAGES[status]}
    assert gateway.call("/gate/verify").status_code == 404, "the gate is not to be asked from outside"
    assert len(seen(upstreams, "HTTP")) == before


@contextlib.contextmanager
def gate_port(says: str, folder: Path) -> Iterator[int]:
    """The port of a gate that is not there, or that has more callers than it takes and answers 503."""
    if says == "nothing":
        yield free_port()
        return
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(Gate(folder, workers=1, GATE_MAX_CONNECTIONS="1"))
        held = stack.enter_context(socket.create_connection(("127.0.0.1", full.port), timeout=20))
        held.sendall(b"GET /verify HTTP/1.1\r\nHost: gate\r\n\r\n")
        assert held.recv(12) == b"HTTP/1.1 401"
        yield full.port


@pytest.mark.parametrize("says", ["nothing", "503"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_without_the_gate_no_call_gets_through(
    says: str,
    protocol: str,
    upstreams: tuple[int, int, Path],
    sdk_python: str,
    tmp_path: Path,
    transactional_db: None,
) -> None:
    before = len(seen(upstreams, protocol))
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(gate_port(says, tmp_path / "gate"))
        gateway = stack.enter_context(Gateway(tmp_path / "nginx", port, *upstreams[:2]).serving())
        refused = stack.enter_context(Sdk(sdk_python)).make(gateway, protocol, keyformat.new_secret())
        assert (refused["good"], refused["code"]) == (False, UNAVAILABLE[protocol])
        answer = gateway.call(headers={"dashvector-auth-token": keyformat.new_secret()})
    assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
    said = answer.json()
    assert uuid.UUID(said["request_id"]) and said["code"] == 503 and said["message"].endswith(".")
    assert len(seen(upstreams, protocol)) == before
