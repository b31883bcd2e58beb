"""`make run` and the commands: the first start, later ones, and those that cannot work."""

import os
import signal
import socket
import stat
import subprocess
import sys
import uuid
from dataclasses import replace
from io import StringIO
from pathlib import Path

import httpx
import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import DatabaseError
from django.test import Client
from pytest_django import Settings

from console import schema
from console.models import User
from console.start import secrets_file
from tests.support import html
from tests.support.person import PASSWORD, Person, code, fields, wait_for
from tests.support.servers import ROOT, Server, database_address, free_port, running


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PATH", "COVERAGE", "HOME"))}
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=ROOT, env=kept | environment, capture_output=True, text=True, timeout=120)


def change_printed_password(server: Server, printed: str) -> None:
    """It opens nothing but the way to a new one."""
    with Person(server.address) as owner:
        enrolment = owner.send("/login/", username="root", password=printed)
        secret = html.text(enrolment.text, "#totp-secret")
        page = owner.http.post("/security/authenticator/", data=fields(enrolment.text) | {"otp_token": code(secret)})
        codes = html.texts(page.text, "#recovery-codes li code")
        for address in ("/api-keys/", "/admin/", "/security/authenticator/"):
            page = owner.http.get(address)
            assert page.url.path == "/security/password/" and "Choose your own" in page.text
        created = owner.http.post("/api-keys/create/", data=fields(page.text) | {"request_id": str(uuid.uuid4())})
        assert created.url.path == "/security/password/"
        words = {"password": printed, "otp_token": codes[0]}
        again = owner.send("/security/password/", **words, new_password=printed)
        assert again.status_code == 422 and "different from the current one" in again.text
        changed = owner.send("/security/password/", **words, new_password=PASSWORD)
        assert "Your password has been changed." in changed.text
        owner.create()


def test_the_first_start_makes_everything_and_the_next_keeps_it(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with database_address() as database:
        server = Server(folder, CONSOLE_ROOT_PASSWORD="", **database)
        *address, account, password = server.start().splitlines()
        server.stop()
        assert address == [f"Console:  {server.address}", f"Gate:     http://127.0.0.1:{server.gate_port}"]
        assert account == "Account:  root"
        assert password.startswith("Password: ") and password.endswith("(shown only once)")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        for file in folder.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file
        secrets = (folder / "secrets.env").read_text()

        printed = server.start()
        try:
            assert printed.splitlines() == [*address, account]
            assert (folder / "secrets.env").read_text() == secrets
            change_printed_password(server, password.split()[1])
        finally:
            assert server.stop() == 0
        assert password.split()[1] not in server.errors.read_text()


def test_the_given_password_is_the_password_and_data_survives(tmp_path: Path) -> None:
    with running(tmp_path / "data") as server, Person(server.address) as owner:
        key_id, _ = owner.log_on().create()
        server.stop(signal.SIGINT)
        server.start()
        assert owner.key_ids() == [key_id]


@pytest.mark.once
def test_settings_in_secrets_env_reach_every_program(tmp_path: Path) -> None:
    server, port = Server(tmp_path / "data"), free_port()
    server.start()
    server.stop()
    with (server.folder / "secrets.env").open("a") as file:
        file.write(f"CONSOLE_URL=https://keys.example.org\nTRUSTED_PROXIES=127.0.0.1\nGATE_METRICS_PORT={port}\n")
    server.start()
    try:
        https = {"Host": "keys.example.org", "X-Forwarded-Proto": "https"}
        page = httpx.get(f"{server.address}/login/", headers=https)
        assert page.headers["set-cookie"].startswith("__Host-csrftoken=")
        assert httpx.get(f"http://127.0.0.1:{port}/metrics").status_code == 200
        assert httpx.get(f"http://127.0.0.1:{server.gate_port}/metrics").status_code == 404
    finally:
        assert server.stop() == 0


@pytest.mark.once
def test_when_a_server_dies_all_end(tmp_path: Path) -> None:
    server = Server(tmp_path / "data")
    server.start()
    children = subprocess.check_output(["pgrep", "-P", str(server.process.pid)], text=True).split()
    os.kill(int(children[0]), signal.SIGTERM)
    assert server.process.wait(60) == 1
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.address)


@pytest.mark.once
@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("fourteen signs", "This password is too short. It must contain at least 15 characters."),
        ("1q2w3e4r5t6y7u8i", "This password is too common."),
        ("root-console-1", "This password is mostly your user name, your email, or words used on this site."),
    ],
)
def test_a_weak_given_password_ends_the_start_and_nothing_is_left_behind(
    tmp_path: Path, password: str, why: str
) -> None:
    ended = run("-m", "console.start", **Server(tmp_path / "data", CONSOLE_ROOT_PASSWORD=password).environment)
    assert ended.returncode == 1 and not ended.stdout
    (line,) = ended.stderr.splitlines()
    assert line.startswith("CONSOLE_ROOT_PASSWORD: ") and why in line and password not in line
    assert line.endswith("Set a stronger one, or unset it to have one generated.")
    assert [file.name for file in (tmp_path / "data").iterdir()] == ["lock"]


@pytest.mark.once
def test_nor_is_anything_taken_away(tmp_path: Path) -> None:
    secrets = tmp_path / "data" / "secrets.env"
    secrets.parent.mkdir(mode=0o700)
    assert secrets_file.write(secrets, secrets_file.new_secrets())
    before = secrets.read_text()
    ended = run("-m", "console.start", **Server(tmp_path / "data", CONSOLE_ROOT_PASSWORD="fourteen signs").environment)
    assert ended.returncode == 1 and secrets.read_text() == before


@pytest.mark.once
@pytest.mark.parametrize("name", ["PORT", "GATE_PORT", "GATE_METRICS_PORT"])
def test_a_port_that_is_taken_says_what_to_set(tmp_path: Path, name: str) -> None:
    environment = Server(tmp_path / "data").environment
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        number = str(holder.getsockname()[1])
        ended = run("-m", "console.start", **environment | {name: number})
    assert ended.returncode == 1
    assert f"Cannot listen on port {number}" in ended.stderr and f"Set {name} to a free port" in ended.stderr
    assert [file.name for file in (tmp_path / "data").iterdir()] == ["lock"]


@pytest.mark.once
def test_being_stopped_while_starting_is_no_error(tmp_path: Path) -> None:
    server = Server(tmp_path / "data")
    process = subprocess.Popen([sys.executable, "-m", "console.start"], cwd=ROOT, env=server.environment)
    wait_for(lambda: (tmp_path / "data" / "secrets.env").exists())
    process.terminate()
    assert process.wait(60) == 0


@pytest.mark.once
def test_a_database_that_cannot_be_reached_ends_the_start_with_a_sentence(tmp_path: Path) -> None:
    environment = Server(tmp_path / "data", DATABASE_URL="postgres://nobody@127.0.0.1:1/none").environment
    ended = run("-m", "console.start", **environment)
    assert ended.returncode == 1
    assert ended.stderr and "Traceback" not in ended.stderr


def test_djangos_own_check_of_a_deployment_finds_nothing(fresh_server: Server) -> None:
    environment = fresh_server.environment | {"CONSOLE_URL": "https://keys.example.org"}
    checked = run("manage.py", "check", "--deploy", "--fail-level", "WARNING", **environment)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.django_db
class TestCommands:
    def test_createroot_makes_a_root_account(self, settings: Settings) -> None:
        out = StringIO()
        call_command("createroot", "second", stdout=out)
        user = User.objects.get(username="second")
        assert user.is_root_account and not user.is_staff
        assert user.check_password(out.getvalue().split()[3]) and user.must_change_password
        settings.ENVIRONMENT = replace(settings.ENVIRONMENT, root_password=PASSWORD)
        call_command("createroot", "third", "--operator", stdout=(given := StringIO()))
        assert PASSWORD not in given.getvalue()
        third = User.objects.get(username="third")
        assert third.is_staff and not third.must_change_password

    @pytest.mark.parametrize(
        ("name", "password", "why"),
        [("owner", "", "already exists"), ("a b", "", "valid username"), ("new", "too short", "15 characters")],
    )
    def test_createroot_refuses_what_is_wrong(
        self, owner: User, settings: Settings, name: str, password: str, why: str
    ) -> None:
        settings.ENVIRONMENT = replace(settings.ENVIRONMENT, root_password=password)
        with pytest.raises(CommandError, match=why):
            call_command("createroot", name)
        assert User.objects.count() == 1

    def test_a_ram_user_belongs_to_a_root_account(self, owner: User, ram_user: User) -> None:
        for wrong in (User(username="x", account=ram_user), ram_user):
            wrong.account = ram_user
            with pytest.raises(ValidationError, match="Choose a root account."):
                wrong.clean()
        ram_user.account = owner
        ram_user.clean()

    def test_every_change_of_a_model_has_its_migration(self) -> None:
        call_command("makemigrations", check=True, dry_run=True, verbosity=0)


@pytest.mark.django_db
class TestHealth:
    def test_it_lives_and_is_ready(self) -> None:
        assert Client().get("/healthz").status_code == 200
        assert Client().get("/readyz").content == b"ok\n"

    def test_it_is_not_ready_without_its_database(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def gone(connection: object) -> None:
            raise DatabaseError

        monkeypatch.setattr(schema, "MigrationLoader", gone)
        response = Client().get("/readyz")
        assert response.status_code == 503
        assert response.content == b"the database cannot be reached\n"

    @pytest.mark.parametrize("host", ["10.0.0.7", "10.0.0.7:8000", "[2001:db8::1]", "evil.example", "a_b", ""])
    def test_a_probe_may_call_it_by_any_name(self, host: str) -> None:
        for path in ("/healthz", "/readyz"):
            assert Client().get(path, headers={"Host": host}).status_code == 200
        for path in ("/", "/login/", "/api-keys/", "/healthz/", "/static/icon.svg"):
            assert Client().get(path, headers={"Host": host or "."}).status_code in (400, 404), path


@pytest.mark.once
def test_probes_by_any_name_over_http(server: Server) -> None:
    for host in ("10.0.0.7", "10.0.0.7:8000", "[2001:db8::1]", "evil.example", "a_b"):
        for path in ("/healthz", "/readyz"):
            answer = httpx.get(server.address + path, headers={"Host": host})
            assert (answer.status_code, answer.text) == (200, "ok\n")
        assert httpx.get(f"{server.address}/login/", headers={"Host": host}).status_code == 400
    assert "/readyz" not in server.output.read_text()
