"""Signed heads of the ledger: what somebody who writes to the database, and even to the file, cannot get past."""

import base64
import io
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from secrets import token_urlsafe

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.core import mail
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from console.environment import ConfigurationError, read
from console.ledger import heads
from console.ledger.chain import START, BrokenChain, row_hash
from console.ledger.models import Entry
from console.models import User
from console.operators import set_active
from console.outbox import Email
from console.vault import new_key
from tests.support.servers import ROOT
from tests.support.tampering import drop_triggers
from tests.support.world import Enrolled, verified_client

pytestmark = pytest.mark.django_db


@pytest.fixture
def file(tmp_path: Path, settings: Settings) -> Path:
    settings.LEDGER_HEADS_KEY = tmp_path / "ledger-heads.key"
    settings.LEDGER_HEADS_FILE = tmp_path / "heads"
    return tmp_path / "heads"


def an_hour_passes(file: Path) -> None:
    os.utime(file, (0, 0))


def housekeep() -> None:
    call_command("housekeep", "--once", stdout=io.StringIO())


def verify(*words: str) -> str:
    said = io.StringIO()
    call_command("verify_ledger", *words, stdout=said)
    return said.getvalue()


def something_happens(user: User) -> None:
    set_active(user, not user.is_active)


@pytest.fixture
def written(file: Path, owner: Enrolled, other: Enrolled) -> Path:
    """Three lines, the owner's ledger growing in between."""
    housekeep()
    for _ in range(2):
        something_happens(owner)
        an_hour_passes(file)
        housekeep()
    return file


class TestTheFile:
    def test_it_gets_a_line_an_hour_with_what_has_grown(
        self, file: Path, owner: Enrolled, other: Enrolled, settings: Settings
    ) -> None:
        housekeep()
        housekeep()
        assert len(file.read_text().splitlines()) == 1
        something_happens(owner)
        an_hour_passes(file)
        housekeep()
        an_hour_passes(file)
        housekeep()
        known = heads.read_file(file, heads.public_key(settings.LEDGER_HEADS_KEY.with_suffix(".pub")))
        assert known.lines == 3 and known.at.startswith(f"{timezone.now():%Y-}")
        last = owner.ledger.latest("number")
        assert known.last[str(owner.pk)] == (last.number, bytes(last.hash).hex())
        assert len(known.kept[str(owner.pk)]) == 2 and len(known.kept[str(other.pk)]) == 1

    def test_a_ledger_that_was_cut_since_gets_no_line(
        self, written: Path, owner: Enrolled, caplog: pytest.LogCaptureFixture
    ) -> None:
        drop_triggers()
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM console_entry WHERE account_id = %s AND number > 2", [owner.pk])
        an_hour_passes(written)
        before = written.read_bytes()
        housekeep()
        assert written.read_bytes() == before
        assert f"the ledger of {owner.pk} has 2 rows; it had " in caplog.text

    @pytest.mark.parametrize("last", [(1, "00" * 32), (3, "00" * 32)])
    def test_one_who_has_the_key_cannot_take_a_head_back(
        self, written: Path, owner: Enrolled, settings: Settings, last: tuple[int, str]
    ) -> None:
        key = heads.signing_key(settings.LEDGER_HEADS_KEY)
        known = heads.read_file(written, key.public_key())
        number, _ = known.last[str(owner.pk)]
        said = {"at": known.at, "previous": known.previous, "heads": {str(owner.pk): (min(last[0], number), last[1])}}
        content = json.dumps(said).encode()
        heads.add(written, content + b"\t" + base64.b64encode(key.sign(content)) + b"\n")
        with pytest.raises(BrokenChain, match=f"line 4: the ledger of {owner.pk} has . rows; it had {number}"):
            heads.read_file(written, key.public_key())

    def test_it_and_its_key_are_for_their_owner_alone(self, written: Path, settings: Settings) -> None:
        for one in (written, settings.LEDGER_HEADS_KEY):
            assert one.stat().st_mode & 0o777 == 0o600

    def test_a_full_disk_leaves_it_as_it_was(self, written: Path) -> None:
        before, (soft, hard) = written.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
        for left in (0, 10):
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + left, hard))
            try:
                with pytest.raises(OSError):
                    heads.add(written, b"x" * 100)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            assert written.read_bytes() == before

    def test_a_full_disk_leaves_no_half_a_key(self, tmp_path: Path) -> None:
        file, (soft, hard) = tmp_path / "ledger-heads.key", resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (115, hard))  # the public key has 113 bytes, the private one 119
        try:
            with pytest.raises(OSError):
                heads.signing_key(file)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert file.with_suffix(".pub").stat().st_size == 113 and not file.exists()
        assert heads.public_key(file.with_suffix(".pub")) != heads.signing_key(file).public_key()
        assert heads.public_key(file.with_suffix(".pub")) == heads.signing_key(file).public_key()

    @pytest.mark.parametrize("damage", ["heads", "key", "another kind of key", "a key for all to read", "folder"])
    def test_what_cannot_be_written_holds_no_email_up(
        self, written: Path, settings: Settings, damage: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        an_hour_passes(written)
        if damage == "heads":
            written.write_text("x\n")
            an_hour_passes(written)
        elif damage == "key":
            settings.LEDGER_HEADS_KEY.write_text("nonsense")
        elif damage == "another kind of key":
            pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            settings.LEDGER_HEADS_KEY.write_bytes(rsa.generate_private_key(65537, 2048).private_bytes(*pem))
        elif damage == "a key for all to read":
            settings.LEDGER_HEADS_KEY.chmod(0o644)
        else:
            settings.LEDGER_HEADS_FILE = written / "heads"
        Email.queue("owner@example.org", "Subject", "Text")
        housekeep()
        assert f"nothing can be appended to {settings.LEDGER_HEADS_FILE}: " in caplog.text and mail.outbox

    def test_the_setting_names_a_file_in_a_folder_that_exists(self, tmp_path: Path) -> None:
        secrets = {"SECRET_KEY": token_urlsafe(48), "VAULT_KEYS": new_key(), "DIGEST_KEYS": new_key()}
        for wrong in (tmp_path, tmp_path / "none" / "heads"):
            with pytest.raises(ConfigurationError, match="Set a file in a folder that exists."):
                read(secrets | {"LEDGER_HEADS_FILE": str(wrong)})
        assert read(secrets | {"LEDGER_HEADS_FILE": str(tmp_path / "heads")}).ledger_heads_file == tmp_path / "heads"


def cut(account: User) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM console_entry WHERE account_id = %s AND number > 2", [account.pk])


def write_anew(account: User) -> None:
    """Another name in one row, and every hash from there on as it should be."""
    previous = START
    for entry in Entry.objects.filter(account=account).order_by("number"):
        who = "somebody else" if entry.number == 2 else entry.who
        entry.who = who
        previous = row_hash(previous, entry.row())
        Entry.objects.filter(pk=entry.pk).update(who=who, hash=previous)


ATTACKS: dict[str, Callable[[User], None]] = {"cut off": cut, "written anew": write_anew}


class TestTheProof:
    def test_it_holds(self, written: Path, owner: Enrolled) -> None:
        said = verify()
        assert re.search(rf"^{written}: 3 lines, the last of 2[0-9-]+T[0-9:]+Z$", said, re.MULTILINE)
        assert "account owner: " in said and "account other: " in said
        something_happens(owner)
        assert "account owner: " in verify("--account=owner")

    @pytest.mark.parametrize("attack", ATTACKS)
    def test_a_ledger_that_was_changed_with_all_its_hashes_is_named(
        self, attack: str, written: Path, owner: Enrolled, settings: Settings
    ) -> None:
        drop_triggers()
        ATTACKS[attack](owner)
        with pytest.raises(CommandError, match="account owner: no row has the hash .*: rows were cut off"):
            verify()
        settings.LEDGER_HEADS_FILE = None
        assert "account owner: " in verify(), "nothing else tells"

    def test_a_ledger_without_rows_is_named(self, owner: Enrolled) -> None:
        drop_triggers()
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM console_entry")
        with pytest.raises(CommandError, match="account owner: it has no rows: all of them were removed"):
            verify()

    def test_an_account_that_is_gone_is_named(self, written: Path, other: Enrolled) -> None:
        drop_triggers()
        with connection.cursor() as cursor:
            for table, column in (
                ("console_entry", "account_id"),
                ("console_authenticator", "user_id"),
                ("console_recoverycodes", "user_id"),
                ("console_user", "id"),
            ):
                cursor.execute(f"DELETE FROM {table} WHERE {column} = %s", [other.pk])
        with pytest.raises(CommandError, match=f"accounts that are no longer in the database: {other.pk}"):
            verify("--account=owner")

    def test_without_the_file_nothing_is_proved(self, written: Path) -> None:
        content = written.read_bytes()
        written.write_bytes(b"")
        with pytest.raises(CommandError, match="it has no lines"):
            verify()
        written.unlink()
        with pytest.raises(CommandError, match="No such file"):
            verify()
        written.with_name("copy").write_bytes(content)
        assert "3 lines" in verify(f"--heads={written.with_name('copy')}")

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda lines: [lines[0], lines[2]], "line 2 does not follow the line before: a line is missing"),
            (lambda lines: lines[1:], "line 1 does not follow the line before"),
            (lambda lines: [lines[1], lines[0], lines[2]], "line 1 does not follow"),
            (
                lambda lines: [lines[0].replace(b'"at":"2', b'"at":"3'), *lines[1:]],
                "line 1 is not signed with this key",
            ),
            (lambda lines: [lines[0], b"nonsense\n"], "line 2 is incomplete"),
            (lambda lines: [lines[0], lines[1][:-20]], "line 2 is"),
        ],
    )
    def test_a_file_that_was_changed_is_named(
        self, change: Callable[[list[bytes]], list[bytes]], said: str, written: Path
    ) -> None:
        written.write_bytes(b"".join(change(written.read_bytes().splitlines(keepends=True))))
        with pytest.raises(CommandError, match=said):
            verify()

    def test_another_key_does_not_do(self, written: Path, tmp_path: Path) -> None:
        heads.signing_key(tmp_path / "another.key")
        with pytest.raises(CommandError, match="line 1 is not signed with this key"):
            verify(f"--public-key={tmp_path / 'another.pub'}")
        key = rsa.generate_private_key(65537, 2048).public_key()
        pem = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        (tmp_path / "another.pub").write_bytes(key.public_bytes(*pem))
        with pytest.raises(CommandError, match="no Ed25519 public key"):
            verify(f"--public-key={tmp_path / 'another.pub'}")


class TestWithoutAnInstallation:
    @pytest.fixture
    def key(self, written: Path) -> Path:
        return written.with_name("ledger-heads.pub")

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "console.ledger.heads", *map(str, words)]
        environment = {name: text for name, text in os.environ.items() if name.startswith(("COVERAGE", "PATH"))}
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)

    def test_the_file_verifies_and_names_what_an_export_must_have(
        self, written: Path, key: Path, owner: Enrolled
    ) -> None:
        found = self.run(written, "--public-key", key)
        last = owner.ledger.latest("number")
        assert f"account {owner.pk}: {last.number} rows, last hash {bytes(last.hash).hex()}" in found.stdout
        written.write_bytes(written.read_bytes()[1:])
        found = self.run(written, "--public-key", key)
        assert found.returncode == 1 and "line 1 is not signed with this key" in found.stderr

    def test_an_export_must_have_all_heads(self, written: Path, key: Path, owner: Enrolled, tmp_path: Path) -> None:
        browser, export = verified_client(owner), tmp_path / "activity.csv"
        export.write_bytes(browser.get("/activity/csv/").content)
        words = (written, "--public-key", key, "--export", export)
        found = self.run(*words, "--account", str(owner.pk))
        assert found.returncode == 0 and f"with all 3 heads of account {owner.pk}" in found.stdout
        export.write_text("".join(export.read_text().splitlines(keepends=True)[:-1]))
        found = self.run(*words, "--account", str(owner.pk))
        assert found.returncode == 1 and "rows were cut off the end, or written anew" in found.stderr
        assert "has no account 0" in self.run(*words, "--account", "0").stderr
        assert self.run(*words).returncode == 2

    def test_it_needs_nothing_but_its_folder(self, written: Path, key: Path, tmp_path: Path) -> None:
        shutil.copytree(ROOT / "console" / "ledger", tmp_path / "console" / "ledger")
        command = [sys.executable, "-m", "console.ledger.heads", str(written), "--public-key", str(key)]
        assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0

    def test_openssl_verifies_a_line(self, written: Path, key: Path, tmp_path: Path) -> None:
        content, signature = written.read_bytes().splitlines()[0].split(b"\t")
        (tmp_path / "content").write_bytes(content)
        decoded = subprocess.run(["openssl", "base64", "-d", "-A"], input=signature, capture_output=True, check=True)
        (tmp_path / "signature").write_bytes(decoded.stdout)
        command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(key), "-rawin"]
        command += ["-in", str(tmp_path / "content"), "-sigfile", str(tmp_path / "signature")]
        assert b"Successfully" in subprocess.run(command, capture_output=True, check=True).stdout
