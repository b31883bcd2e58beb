"""What each program is handed, may do and leaves behind: somebody who has taken one of them has no other's secrets."""

import contextlib
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import psycopg
import pytest
from django.utils import timezone
from psycopg.errors import InsufficientPrivilege

from apikeys.keys.tombstones import read
from apikeys.metering.counter import CallCounter
from console.ledger.budget import ROWS, Budget
from console.ledger.kinds import Kind
from console.models import VaultKey
from console.outbox import Email
from console.sessions.store import Session
from console.vault import new_key
from tests.support.gates import Gate, counted, database_url
from tests.support.gates import new_key as new_api_key
from tests.support.person import Person
from tests.support.servers import ROOT, Server, database_address, free_port
from tests.support.sockets import children
from tests.support.waiting import wait_for
from tests.support.world import enrolled, only_postgres

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
        folder = tmp_path_factory.mktemp("product") / "data"
        given["GATE_DATABASE_URL"] = database.get("DATABASE_URL", f"sqlite:///{folder}/console.sqlite3")
        started = Server(folder, **given)
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


@pytest.fixture
def roles(transactional_db: None) -> Iterator[dict[str, str]]:
    """The addresses of the test's database for the role of each program, made with deploy/postgresql-roles.sql."""
    address = database_url()
    names = {role: f"{role}_{os.getpid()}" for role in ("console", "gate", "meter", "housekeep")}
    with psycopg.connect(address, autocommit=True) as owner:
        for name in names.values():
            owner.execute(f"CREATE ROLE {name} LOGIN".encode())
        granted = (ROOT / "deploy" / "postgresql-roles.sql").read_text()
        owner.execute(re.sub(r"\bapi_key_(\w+)", lambda match: names[match[1]], granted).encode())
        yield {role: address.replace("://console@", f"://{name}@") for role, name in names.items()}
        for name in names.values():
            owner.execute(f"DROP OWNED BY {name}; DROP ROLE {name}".encode())


FORBIDDEN = {
    "gate": [
        "SELECT sealed_secret FROM apikeys_apikey",
        "SELECT hint FROM apikeys_apikey",
        "UPDATE apikeys_apikey SET deleted_at = NULL",
        "SELECT password FROM console_user",
        "SELECT sealed_secret FROM console_authenticator",
        "SELECT session_key FROM console_session",
        "DELETE FROM apikeys_usage",
        "CREATE TABLE mine (id int)",
    ],
    "meter": [
        "SELECT sealed_secret FROM apikeys_apikey",
        "SELECT hint FROM apikeys_apikey",
        "UPDATE apikeys_apikey SET deleted_at = NULL",
        "DELETE FROM apikeys_usage",
        "SELECT body FROM console_email",
        "INSERT INTO console_session (session_key) VALUES ('mine')",
    ],
    "housekeep": [
        "SELECT password FROM console_user",
        "UPDATE console_user SET is_staff = true",
        "SELECT sealed_secret FROM console_authenticator",
        "UPDATE console_session SET user_id = 1",
        "DELETE FROM console_entry",
        "INSERT INTO console_installationentry (number) VALUES (1)",
        "SELECT digest FROM console_recovery",
        "SELECT digest FROM apikeys_apikey",
        "SELECT digests FROM console_recoverycodes",
    ],
    "console": [
        statement % ledger
        for ledger in ("console_entry", "console_installationentry")
        for statement in ("DELETE FROM %s", "UPDATE %s SET kind = ''", "TRUNCATE %s")
    ]
    + [
        *(f"DELETE FROM {table}" for table in ("apikeys_apikey", "apikeys_usage", "console_user", "console_budget")),
        "INSERT INTO django_migrations (app, name, applied) VALUES ('console', 'the next', now())",
        "CREATE TABLE mine (id int)",
    ],
}


@only_postgres
@pytest.mark.no_mutants
def test_a_role_may_do_what_its_program_needs_and_no_more(roles: dict[str, str], tmp_path: Path) -> None:
    (key, secret), (deleted, other) = new_api_key(), new_api_key()
    deleted.revoke()
    VaultKey.check_all()
    Email.queue("owner@example.org", "Waits", "to be sent")
    owner, ago, heads = enrolled("alice"), timezone.now() - timedelta(hours=2), tmp_path / "heads"
    Session.objects.create(session_key="0" * 32, expire_date=ago, user=owner)  # never got further than the password
    Budget.objects.create(account=owner, kind=Kind.CODE_REFUSED, since=ago, rows=ROWS, more=7)

    def command(role: str, *words: str) -> str:
        environment = gate.environment | {"DATABASE_URL": roles[role], "SECRET_KEY": "", "VAULT_KEYS": ""}
        environment["LEDGER_HEADS_FILE"] = str(heads)
        command = [sys.executable, "manage.py", *words]
        return subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout

    nobody = roles["gate"].replace("gate", "nobody", 1)
    with Gate(tmp_path, DATABASE_URL=nobody, GATE_DATABASE_URL=roles["gate"], VAULT_KEYS="") as gate:
        assert [gate.status(one) for one in (secret, other)] == [200, 401]
    (tmp_path / "deleted-keys").unlink()
    assert "folded" in command("meter", "meter", "--once")
    assert [*read(tmp_path / "deleted-keys")] == [(deleted.pk, bytes(deleted.digest))]
    assert (counted(key), counted(deleted)) == ((1, 0), (0, 1))
    assert "1 emails sent" in command("housekeep", "housekeep", "--once") and not Session.objects.exists()
    assert {Kind.PASSWORD_ACCEPTED, Kind.MORE} <= {*owner.ledger.values_list("kind", flat=True)} and heads.read_text()
    for role, statements in FORBIDDEN.items():
        for statement in statements:
            with psycopg.connect(roles[role]) as connection, pytest.raises(InsufficientPrivilege):
                connection.execute(statement.encode())


STARTED = {
    "console": ["-m", "gunicorn", "-c", "python:console.gunicorn_conf", "console.wsgi"],
    "gate": ["-m", "gunicorn", "-c", "python:apikeys.gate.gunicorn_conf", "apikeys.gate.main:gate"],
    "meter": ["manage.py", "meter"],
    "housekeep": ["manage.py", "housekeep"],
}


@pytest.mark.once
class TestWhatIsWritten:
    """By programs that were started with the umask of a careless shell."""

    @pytest.fixture
    def environment(self, tmp_path: Path) -> dict[str, str]:
        given = {**GIVEN, "PGPASSWORD": "", "EMAIL_URL": "", "DATABASE_URL": ""}
        return os.environ | given | {"CONSOLE_DATA_DIR": str(tmp_path), "DJANGO_SETTINGS_MODULE": "console.settings"}

    def test_commands_write_for_their_user_alone(self, environment: dict[str, str], tmp_path: Path) -> None:
        for words in ("migrate -v0", "collectstatic --no-input -v0", "createroot root"):
            command = [sys.executable, "manage.py", *words.split()]
            subprocess.run(command, cwd=ROOT, env=environment, umask=0, check=True, stdout=subprocess.DEVNULL)
        assert (tmp_path / "console.sqlite3").exists() and [*tmp_path.rglob("*.css")]
        assert [file for file in tmp_path.rglob("*") if file.stat().st_mode & 0o077] == []

    @pytest.mark.parametrize("program", STARTED)
    def test_so_do_programs(self, environment: dict[str, str], program: str) -> None:
        address = ["-b", f"127.0.0.1:{free_port()}"] if "gunicorn" in STARTED[program] else []
        command = [sys.executable, *STARTED[program], *address]

        def umasks() -> set[str]:
            found = set()
            for pid in (process.pid, *children(process.pid)):
                with contextlib.suppress(FileNotFoundError):
                    found |= set(re.findall(r"^Umask:\s*(\d+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE))
            return found

        with subprocess.Popen(command, cwd=ROOT, env=environment, umask=0) as process:
            try:
                wait_for(lambda: umasks() == {"0077"} and (not address or len(children(process.pid)) == 2))
                assert umasks() == {"0077"}
            finally:
                process.terminate()


@pytest.mark.once
def test_meter_may_be_another_user_of_the_gates_group(tmp_path: Path) -> None:
    """Of its group, and nobody else."""
    for mode, readable in ((0o770, 0o660), (0o700, 0o600), (0o777, 0o660)):
        folder = tmp_path / f"{mode:o}"
        folder.mkdir()
        folder.chmod(mode)
        counter = CallCounter(folder)
        counter.count(b"k" * 16, True, bytes(16))
        (file,) = folder.iterdir()
        assert file.stat().st_mode & 0o777 == readable
        counter.close()


UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
SANDBOX = {  # what lets a program that was taken over do least
    "CapabilityBoundingSet": "",
    "IPAddressDeny": "any",
    "LimitCORE": "0",
    "MemoryDenyWriteExecute": "yes",
    "NoNewPrivileges": "yes",
    "PrivateDevices": "yes",
    "PrivateTmp": "yes",
    "PrivateUsers": "yes",
    "ProtectHome": "yes",
    "ProtectProc": "invisible",
    "ProtectSystem": "strict",
    "RestrictNamespaces": "yes",
    "RestrictSUIDSGID": "yes",
    "SystemCallArchitectures": "native",
    "UMask": "0077",
}


@pytest.mark.once
def test_each_program_has_a_unit_and_a_user_and_secrets_of_its_own() -> None:
    units = {unit.stem.removeprefix("api-key-"): unit.read_text().splitlines() for unit in UNITS}
    assert set(units) == set(STARTED)
    users = (ROOT / "deploy" / "systemd" / "api-key-users.conf").read_text()
    for name, lines in units.items():
        settings = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
        assert {setting: settings.get(setting) for setting in SANDBOX} == SANDBOX
        assert settings["User"] == f"api-key-{name}" and f"u api-key-{name} " in users
        assert settings["LoadCredential"] == f"secrets.env:/etc/api-key-console/{name}.env"
        assert "SECRETS_FILE=%d/secrets.env" in settings["Environment"]
        assert all(word in settings["ExecStart"] for word in STARTED[name] if word != "-m")


@pytest.mark.once
def test_the_file_of_deleted_keys_is_one_for_all_and_the_gates_to_read() -> None:
    units = {unit.stem.removeprefix("api-key-"): unit.read_text() for unit in UNITS}
    folder = "/var/lib/api-key-deletions"
    assert f"d {folder} 2770 root api-key-deletions" in (UNITS[0].parent / "api-key-deletions.conf").read_text()
    for name in ("console", "gate", "meter"):
        assert re.search(r"^SupplementaryGroups=.*\bapi-key-deletions$", units[name], re.MULTILINE)
        assert f" DELETED_KEYS_FILE={folder}/deleted-keys\n" in units[name]
        assert bool(re.search(rf"^ReadWritePaths=.*{folder}$", units[name], re.MULTILINE)) == (name != "gate")
    assert "deletions" not in units["housekeep"]


@pytest.mark.once
@pytest.mark.sandbox
def test_systemd_rates_the_sandboxes(tmp_path: Path) -> None:
    """From 0 for all that it can withhold from a program to 10 for nothing."""
    for unit in UNITS:
        command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(unit)]
        rated = subprocess.run(command, capture_output=True, text=True)
        assert rated.returncode == 0, rated.stdout[-200:] + rated.stderr
        assert re.search(r"exposure level for \S+: [01]\.\d", rated.stdout)
