"""The product as it runs for real, to be attacked: behind nginx, over HTTPS with a certificate signed by itself."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.nginx import Gateway
from tests.support.person import Person
from tests.support.servers import AS_INSTALLED, Server, free_port, running


@dataclass
class Site:
    address: str
    certificate: Path
    server: Server

    def person(self, address: str = "127.0.0.1") -> Person:
        """Somebody who comes from that IP address."""
        person = Person(self.address, self.certificate)
        person.http.headers["X-Real-IP"] = address
        return person


@contextlib.contextmanager
def serving(folder: Path, limits: bool) -> Iterator[Site]:
    port = free_port()
    address = f"https://127.0.0.1:{port}"
    with running(folder / "data", CONSOLE_URL=address, TRUSTED_PROXIES="127.0.0.1", **AS_INSTALLED) as server:
        gateway = Gateway(folder / "nginx", gate=server.gate_port, console=server.port, console_at=port, limits=limits)
        with gateway.serving():
            yield Site(address, gateway.certificate, server)


def has_limits(module: ModuleType) -> bool:
    """Of requests and connections for each caller: a tool that stands for many of them does without."""
    return bool(getattr(module, "LIMITS", True))


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving(tmp_path_factory.mktemp("site"), has_limits(request.module)) as started:
        yield started


@pytest.fixture
def fresh_site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """The same for one test alone."""
    with serving(tmp_path, has_limits(request.module)) as started:
        yield started


@pytest.fixture(scope="module")
def owner(site: Site) -> Iterator[Person]:
    with site.person() as person:
        yield person.log_on()
