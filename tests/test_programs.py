"""What each program is handed, may do and leaves behind: somebody who has taken one of them has no other's secrets."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from console.vault import new_key
from tests.support.gates import Gate
from tests.support.gates import new_key as new_api_key
from tests.support.person import Person
from tests.support.servers import Server, database_address

GIVEN = {
    "SECRET_KEY": secrets.token_urlsafe(48),
    "VAULT_KEYS": new_key(),
    "DIGEST_KEYS": new_key(),
    "EMAIL_URL": f"smtp://user:{secrets.token_hex(16)}@127.0.0.1:1",
    "PGPASSWORD": secrets.token_hex(16),
}
# By a word of its command line: what it needs of these.
NEEDED: dict[str, set[str]] = {
    "apikeys.gate.main": {"DIGEST_KEYS"},
    "meter": set(),
    "housekeep": {"EMAIL_URL"},
    "console.wsgi": {"SECRET_KEY", "VAULT_KEYS", "DIGEST_KEYS"},
}


def memory(pid: int) -> bytes:
    """All that the process can write to: heap, stack and what Python keeps."""
    parts = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            start, end = (int(place, 16) for place in line.split()[0].split("-"))
            if line.split()[1].startswith("rw"):
                try:
                    mem.seek(start)
                    parts.append(mem.read(end - start))
                except OSError:
                    continue
    return b"".join(parts)


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`make run` by somebody who sets all secrets in the environment."""
    with database_address() as database:
        given = GIVEN | database | ({"PGPASSWORD": ""} if database else {})
        given["SPT_NOENV"] = "1"  # gunicorn's titles would hide the environment that it was given
        started = Server(tmp_path_factory.mktemp("product") / "data", **given)
        started.start()
        yield started
        started.stop()


def processes(server: Server, word: str) -> list[int]:
    """Those of a program: its first, and its workers."""
    found = [pid for pid in server.processes() if word in Path(f"/proc/{pid}/cmdline").read_text()]
    assert found
    return found


@pytest.mark.parametrize("program", NEEDED)
def test_no_program_has_a_secret_in_its_environment(product: Server, program: str) -> None:
    for pid in processes(product, program):
        environ = Path(f"/proc/{pid}/environ").read_text()
        assert [name for name, secret in GIVEN.items() if secret in environ] == []
        assert "CONSOLE_DATA_DIR=" in environ and "PASSWORD" not in environ


@pytest.mark.parametrize("program", NEEDED)
def test_no_program_has_a_secret_in_its_memory_that_it_does_not_need(product: Server, program: str) -> None:
    for pid in processes(product, program):
        core = memory(pid)
        found = {name for name, secret in GIVEN.items() if secret.encode() in core}
        assert found <= NEEDED[program]


def test_the_product_works_with_what_they_have(product: Server) -> None:
    with Person(product.address) as owner:
        _, secret = owner.log_on().create()
    address = f"http://127.0.0.1:{product.gate_port}/verify"
    assert httpx.get(address, headers={"dashvector-auth-token": secret}).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_the_gate_answers_without_the_vaults_keys(tmp_path: Path) -> None:
    secret = new_api_key()[1]
    with Gate(tmp_path, VAULT_KEYS="", SECRET_KEY="") as gate:
        assert gate.status(secret) == 200
