"""The product as it runs for real, to be attacked: behind nginx, over HTTPS with a certificate signed by itself."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.nginx import Gateway
from tests.support.person import Person
from tests.support.servers import AS_INSTALLED, Server, free_port, running


@dataclass
class Site:
    address: str
    certificate: Path
    server: Server

    def person(self) -> Person:
        return Person(self.address, self.certificate)


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Site]:
    port = free_port()
    address = f"https://127.0.0.1:{port}"
    with running(folder / "data", CONSOLE_URL=address, TRUSTED_PROXIES="127.0.0.1", **AS_INSTALLED) as server:
        gateway = Gateway(folder / "nginx", gate=server.gate_port, console=server.port, console_at=port)
        with gateway.serving():
            yield Site(address, gateway.certificate, server)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving(tmp_path_factory.mktemp("site")) as started:
        yield started


@pytest.fixture
def fresh_site(tmp_path: Path) -> Iterator[Site]:
    """The same for one test alone."""
    with serving(tmp_path) as started:
        yield started


@pytest.fixture(scope="module")
def owner(site: Site) -> Iterator[Person]:
    with site.person() as person:
        yield person.log_on()
