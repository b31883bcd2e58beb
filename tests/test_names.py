"""A user name is one name whatever its case, wherever one is created or looked up."""

import json
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.test import Client
from pytest_django import Settings

from console.accounts import fold_names
from console.ledger.kinds import Kind
from console.ledger.models import Entry
from console.models import User
from console.operators import lift_lockout
from console.outbox import Email
from console.vault import new_key
from tests.support.person import PASSWORD, wait_for
from tests.support.servers import ROOT, Server, running
from tests.support.world import Enrolled, enrolled, verified_client

pytestmark = pytest.mark.django_db
SPELLINGS = [("owner", "OWNER"), ("Owner", "owner"), ("ärztin", "ÄRZTIN"), ("straße", "STRASSE"), ("σας", "ΣΑΣ")]
USERS = "/admin/console/user/"


def log_on(name: str, password: str = PASSWORD, address: str = "192.0.2.1") -> Any:
    return Client(REMOTE_ADDR=address).post("/login/", {"username": name, "password": password})


def twin(name: str, **fields: object) -> User:
    """A user from before names were one whatever their case."""
    user = enrolled(f"not-yet-{name}", **fields)
    User.objects.filter(pk=user.pk).update(username=name, folded_name=None)
    return User.objects.get(pk=user.pk)


class TestCreating:
    @pytest.mark.parametrize(("name", "other"), SPELLINGS)
    def test_a_name_that_differs_in_case_alone_is_taken(self, name: str, other: str) -> None:
        call_command("createroot", name, stdout=StringIO())
        with pytest.raises(CommandError) as refused:
            call_command("createroot", other)
        assert str(refused.value) == f"A user named {name} already exists. User names are not case-sensitive."
        assert User.objects.get().username == name, "it keeps the case that it was created with"

    def test_an_operator_is_told_so(self, owner: Enrolled) -> None:
        operator = verified_client(enrolled("operator", is_staff=True))
        for account in ("", owner.pk):
            data = {"username": "OWNER", "email": "", "account": account}
            page = operator.post(f"{USERS}add/", data).content.decode()
            assert "A user named owner already exists. User names are not case-sensitive." in page
        assert User.objects.count() == 2

    def test_the_database_refuses_what_got_past_that(self, owner: Enrolled) -> None:
        with pytest.raises(IntegrityError), transaction.atomic():
            User.objects.create(username="Owner")

    def test_the_longest_names_fit(self) -> None:
        name = "ß" * 150
        call_command("createroot", name, stdout=StringIO())
        assert log_on("SS" * 75).status_code == log_on(name, "wrong").status_code == 422
        assert User.objects.get().folded_name == "ss" * 150


class TestLogOn:
    @pytest.mark.parametrize(("name", "other"), [*SPELLINGS, ("owner", " ＯWNER ")])
    def test_any_case_logs_on(self, name: str, other: str) -> None:
        user = enrolled(name)
        browser = Client()
        assert browser.post("/login/", {"username": other, "password": PASSWORD}).status_code == 302
        assert browser.post("/login/verify/", {"otp_token": user.spare_codes[0]}).status_code == 302
        assert Entry.objects.get(kind=Kind.LOGGED_ON_UNFAMILIAR).who == name

    def test_guesses_in_any_case_are_counted_together(self, owner: Enrolled) -> None:
        names = ["owner", "Owner", "OWNER", "ownER", "oWner"] * 2
        assert [log_on(name, "wrong").status_code for name in names] == [422] * 9 + [429]
        assert log_on("owneR").status_code == 429
        assert {*Entry.objects.filter(account=owner).values_list("who", flat=True)} == {"", "owner"}
        lift_lockout(owner)
        assert log_on("owneR").status_code == 302

    def test_nobodys_name_is_counted_likewise(self) -> None:
        names = ["nobody", "Nobody"] * 5
        assert [log_on(name, "wrong").status_code for name in names] == [422] * 9 + [429]

    def test_the_right_password_clears_the_count(self, owner: Enrolled) -> None:
        for _ in range(2):
            assert [log_on("owner", "wrong").status_code for _ in range(9)] == [422] * 9
            assert log_on("OWNER").status_code == 302

    def test_guesses_from_everywhere_lock_but_not_where_the_owner_logs_on_from(
        self, owner: Enrolled, codes: Iterator[str], settings: Settings
    ) -> None:
        settings.GUESSES_PER_ACCOUNT = 4
        browser = Client(REMOTE_ADDR="192.0.2.200")
        browser.post("/login/", {"username": "OWNER", "password": PASSWORD})
        browser.post("/login/verify/", {"otp_token": next(codes)})
        for number, name in enumerate(("owner", "Owner", "OWNER", "oWNER", "owner", "Owner")):
            log_on(name, "wrong", f"192.0.2.{number}")
        assert log_on("Owner", address="192.0.2.99").status_code == 429
        assert log_on("oWner", address="192.0.2.200").status_code == 302
        assert Entry.objects.get(kind=Kind.LOCKED_OUT).who == "owner"


class TestLookingUp:
    def test_what_no_name_has(self, owner: Enrolled) -> None:
        assert User.objects.named("owner\0") is None

    def test_an_account_to_verify(self, owner: Enrolled, capsys: pytest.CaptureFixture[str]) -> None:
        call_command("verify_ledger", "--account=OWNER")
        assert capsys.readouterr().out.startswith("account owner: ")

    def test_an_operators_search(self) -> None:
        operator = verified_client(enrolled("operator", is_staff=True))
        enrolled("Ärztin")
        for term in ("ärzt", "ÄRZT", "Ärzt"):
            assert "1 user" in operator.get(USERS, {"q": term}).content.decode()


class TestTwins:
    def test_each_logs_on_with_its_exact_name(self) -> None:
        older, younger = enrolled("Root"), twin("root")
        User.objects.filter(pk=younger.pk).update(password="!")
        assert log_on("Root").status_code == 302
        assert log_on("root").status_code == 422
        assert log_on("ROOT").status_code == 302, "otherwise it is the older one's name"
        assert User.objects.named("root") == younger and User.objects.named("rOOt") == older
        with pytest.raises(CommandError, match="A user named Root already exists"):
            call_command("createroot", "rooT")

    @pytest.mark.parametrize("renamed", ["Root", "root"])
    def test_renaming_one_ends_it(self, renamed: str) -> None:
        enrolled("Root", email="owner@example.org"), twin("root", email="owner@example.org")
        call_command("renameuser", renamed, "Anna", stdout=(out := StringIO()))
        assert out.getvalue() == f"{renamed} is now Anna.\n"
        assert not fold_names(User.objects)
        assert log_on("anna").status_code == log_on("ROOT").status_code == 302
        entry = Entry.objects.get(kind=Kind.RENAMED)
        assert entry.account.username == "Anna" and entry.params == {"user": "Anna", "earlier": renamed}
        said = f"User {renamed} was renamed. The new user name for logging on is Anna."
        assert said in Email.objects.get(subject="User renamed: Anna").body
        with pytest.raises(IntegrityError), transaction.atomic():
            User.objects.create(username="root")

    @pytest.mark.parametrize(
        ("name", "new", "why"),
        [
            ("nobody", "x", "There is no user named nobody."),
            ("owner", "OTHER", "A user named other already exists. User names are not case-sensitive."),
            ("owner", "a b", "Enter a valid username."),
        ],
    )
    def test_what_is_no_renaming_changes_nothing(
        self, owner: Enrolled, other: Enrolled, name: str, new: str, why: str
    ) -> None:
        with pytest.raises(CommandError, match=why):
            call_command("renameuser", name, new)
        assert {*User.objects.values_list("username", flat=True)} == {"owner", "other"}
        assert not Entry.objects.filter(kind=Kind.RENAMED).exists()

    def test_a_name_can_change_its_case(self, owner: Enrolled) -> None:
        call_command("renameuser", "OWNER", "Owner", stdout=StringIO())
        assert User.objects.get().username == "Owner"


@pytest.mark.once
def test_the_start_names_twins_and_what_to_do(tmp_path: Path) -> None:
    create = "from console.models import User; User.objects.bulk_create([User(username='Root'), User(username='Anna')])"
    with running(tmp_path / "data") as server:
        command = [sys.executable, "manage.py", "shell", "--command", create]
        subprocess.run(command, cwd=ROOT, env=server.environment, check=True, capture_output=True)
        server.stop()
        server.start()
        lines = [json.loads(line) for line in server.output.read_text().splitlines() if "differ only" in line]
    (message,) = [line["message"] for line in lines]
    assert message.startswith("The user names root and Root differ only in case.")
    assert "manage.py renameuser NAME NEW_NAME" in message


@pytest.mark.once
def test_a_start_without_a_database_says_that_names_are_not_checked(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", DATABASE_URL="postgres://nobody@127.0.0.1:1/none")
    secrets = {
        "SECRET_KEY": "a random text of more than 32 characters",
        "VAULT_KEYS": new_key(),
        "DIGEST_KEYS": new_key(),
    }
    command = [sys.executable, "-m", "gunicorn", "-c", "python:console.gunicorn_conf", "console.wsgi"]
    with server.output.open("w") as out:
        address = ["-b", f"127.0.0.1:{server.port}"]
        console = subprocess.Popen([*command, *address], cwd=ROOT, env=server.environment | secrets, stdout=out)
    try:
        wait_for(lambda: "User names were not checked: the database is unavailable" in server.output.read_text())
    finally:
        console.terminate()
        assert console.wait(30) == 0


@pytest.mark.django_db(transaction=True)
def test_the_migration_keeps_twins_and_folds_all_others() -> None:
    executor = MigrationExecutor(connection)
    last = executor.loader.graph.leaf_nodes()
    executor.migrate([("console", "0007_ledger_codes"), *(node for node in last if node[0] != "console")])
    try:
        users: Any = MigrationExecutor(connection).loader.project_state([("console", "0007_ledger_codes")]).apps
        for name in ("Root", "root", "Ärztin", "ROOT"):
            users.get_model("console", "User").objects.create(username=name)
    finally:
        MigrationExecutor(connection).migrate(last)
    found = User.objects.order_by("pk").values_list("username", "folded_name")
    assert [*found] == [("Root", "root"), ("root", None), ("Ärztin", "ärztin"), ("ROOT", None)]
