"""The gate on another machine than the gateway: deploy/nginx-gate.conf, with strangers on either side."""

import contextlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.support.certificates import Authority
from tests.support.gates import Gate, new_key
from tests.support.nginx import Gateway, adapted, nginx
from tests.support.servers import free_port

pytestmark = [pytest.mark.gateway, pytest.mark.once, pytest.mark.django_db(transaction=True)]
GATE, GATEWAY = "gate.example.org", "gateway.example.org"


@dataclass
class Host:
    """The gate's machine."""

    folder: Path
    port: int

    def ask(self, certificate: Path | None, path: str = "/verify", secret: str = "") -> httpx.Response:
        """As somebody on the network who has this certificate."""
        context = ssl.create_default_context(cafile=self.folder / "ca.crt")
        if certificate:
            context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        address, headers = f"https://127.0.0.1:{self.port}{path}", {"dashvector-auth-token": secret}
        with httpx.Client(verify=context, timeout=20) as http:
            return http.get(address, headers=headers, extensions={"sni_hostname": GATE})


@contextlib.contextmanager
def serving(folder: Path, authority: Authority, gate: int, name: str = GATE) -> Iterator[Host]:
    port = free_port()
    folder.mkdir(exist_ok=True)
    authority.issue("gate", name)
    for file in ("ca.crt", "gate.crt", "gate.key"):
        (folder / file).write_bytes((authority.folder / file).read_bytes())
    with nginx(folder, adapted("nginx-gate.conf", folder, {8444: port, 8001: gate}), [port]):
        yield Host(folder, port)


@contextlib.contextmanager
def gateway(folder: Path, authority: Authority, port: int) -> Iterator[Gateway]:
    """The other machine, with the changes that deploy/nginx-gate.conf names."""
    found = Gateway(folder, gate=port)
    authority.issue("gateway", GATEWAY)
    for file in ("gateway.crt", "gateway.key"):
        (folder / file).write_bytes((authority.folder / file).read_bytes())
    client = adapted("nginx-gate-client.conf", folder, {}).replace(f"{folder}/ca.crt", str(authority.file))
    found.conf = found.conf.replace("proxy_pass http://gate/verify;", f"proxy_pass https://gate/verify;\n{client}")
    with found.serving():
        yield found


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    (tmp_path / "authority").mkdir()
    return Authority(tmp_path / "authority")


def test_it_answers_the_gateway_that_it_knows_and_nobody_else(gate: Gate, authority: Authority, tmp_path: Path) -> None:
    secret = new_key()[1]
    (tmp_path / "evil").mkdir()
    with serving(tmp_path / "gate", authority, gate.port) as host:
        with gateway(tmp_path / "gateway", authority, host.port) as known:
            refused = known.call(headers={"dashvector-auth-token": "sk-short"})
            assert (refused.status_code, refused.headers["x-api-key-status"]) == (401, "malformed")
            passed_on = known.call(headers={"dashvector-auth-token": secret})
            assert passed_on.status_code == 502  # by the gate; there is no service here
        mine = authority.issue("gateway", GATEWAY)
        assert host.ask(mine, secret=secret).status_code == 200
        assert host.ask(mine, "/metrics").status_code == 404
        strangers = (
            None,
            Authority(tmp_path / "evil").issue("gateway", GATEWAY),
            authority.issue("web", "web.example.org"),
        )
        assert [host.ask(stranger, secret=secret).status_code for stranger in strangers] == [400, 400, 403]


@pytest.mark.parametrize("impostor", ["another authority's", "another name"])
def test_the_gateway_tells_no_impostor_a_key(gate: Gate, authority: Authority, tmp_path: Path, impostor: str) -> None:
    secret = new_key()[1]
    theirs, name = authority, "web.example.org"
    if impostor == "another authority's":
        (tmp_path / "evil").mkdir()
        theirs, name = Authority(tmp_path / "evil"), GATE
    with (
        serving(tmp_path / "gate", theirs, gate.port, name) as host,
        gateway(tmp_path / "gateway", authority, host.port) as known,
    ):
        assert known.call(headers={"dashvector-auth-token": secret}).status_code == 503
        assert "upstream SSL certificate" in (known.folder / "error.log").read_text()
