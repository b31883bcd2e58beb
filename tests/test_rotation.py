"""The vault's rotation: online, resumable, and told at the start when a key of it is lost."""

import asyncio
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from apikeys.keys import format as keyformat
from apikeys.management.commands import rotate_vault
from apikeys.models import ApiKey
from console import gunicorn_conf
from console.factors.authentication import authenticate
from console.factors.models import Authenticator, RecoveryCodes
from console.ledger.kinds import Kind
from console.ledger.models import Entry
from console.models import User, VaultKey
from console.operators import invite
from console.vault import Vault, new_key
from tests.support.gates import Callers, Gate, database_url
from tests.support.person import wait_for
from tests.support.servers import ROOT
from tests.support.world import Enrolled, enrolled, verified_client

OLD = os.environ["VAULT_KEYS"], os.environ["DIGEST_KEYS"]


@pytest.fixture
def both(settings: Settings) -> Iterator[dict[str, str]]:
    """A new version of both keys beside the old; for other processes, and with `use` for this one."""
    yield {"VAULT_KEYS": new_key(OLD[0]), "DIGEST_KEYS": new_key(OLD[1])}


def use(settings: Settings, keys: dict[str, str]) -> Vault:
    vault = settings.VAULT = Vault(keys["VAULT_KEYS"], keys["DIGEST_KEYS"])
    return vault


def many_keys(account: User, count: int) -> list[tuple[ApiKey, str]]:
    """Past the account's limits, all of them active."""
    made = []
    for _ in range(count):
        secret = keyformat.new_secret()
        key = ApiKey(account=account, request_id=uuid.uuid4(), hint=keyformat.hint(secret), created_at=timezone.now())
        key.digest = django_settings.VAULT.digests("api-key", secret)[0]
        key.digest_version = django_settings.VAULT.versions[0]
        key.sealed_secret = django_settings.VAULT.seal(key.place, secret.encode())
        made.append((key, secret))
    ApiKey.objects.bulk_create(key for key, _ in made)
    return made


def in_place(vault: Vault, made: list[tuple[ApiKey, str]]) -> int:
    """How many are sealed and digested with the newest keys."""
    stored = {key.pk: key for key in ApiKey.objects.all()}
    return sum(
        vault.newest(bytes(stored[key.pk].sealed_secret or b""))
        and bytes(stored[key.pk].digest) == vault.digests("api-key", secret)[0]
        for key, secret in made
    )


@pytest.mark.django_db(transaction=True)
def test_no_call_is_refused_and_no_view_fails_while_it_runs_and_is_killed(
    both: dict[str, str], settings: Settings, tmp_path: Path
) -> None:
    owner = enrolled("owner")
    made = many_keys(owner, 3 * rotate_vault.BATCH)
    environment = both | {"DATABASE_URL": database_url(), "CONSOLE_DATA_DIR": str(tmp_path)}
    vault = use(settings, both)

    def rotation() -> subprocess.Popen[bytes]:
        words = [sys.executable, "manage.py", "rotate_vault"]
        return subprocess.Popen(words, cwd=ROOT, env=os.environ | environment, stderr=subprocess.DEVNULL)

    with Gate(tmp_path, workers=2, **both) as gate:
        callers = Callers(gate.port, [secret for _, secret in made[:: len(made) // 8]])
        thread = threading.Thread(target=lambda: asyncio.run(callers.run()))
        thread.start()
        try:
            wait_for(lambda: callers.accepted.total() > 100)
            views, browser, codes = 0, verified_client(owner), iter(owner.spare_codes[:8])
            killed = rotation()
            while in_place(vault, made) == 0:
                if token := next(codes, ""):
                    page = browser.post(f"/api-keys/{made[-1][0].pk}/view/", {"otp_token": token})
                    assert page.status_code == 200 and page.context["secret"] == made[-1][1]
                assert made[views % len(made)][0].reveal() == made[views % len(made)][1]
                views += 1
            killed.kill()
            killed.wait()
            begun = in_place(vault, made)
            finished = rotation()
            while finished.poll() is None:
                assert made[views % len(made)][0].reveal() == made[views % len(made)][1]
                views += 1
            after = callers.accepted.total()
            wait_for(lambda: callers.accepted.total() > after + 100)
        finally:
            callers.stopped = True
            thread.join()
    assert finished.returncode == 0 and begun > 0 and views > 3
    assert in_place(vault, made) == len(made)
    assert not callers.refused and callers.accepted.total() > 300
    assert use(settings, {"VAULT_KEYS": both["VAULT_KEYS"].split(",")[1], "DIGEST_KEYS": both["DIGEST_KEYS"]})
    assert made[0][0].reveal() == made[0][1] and Authenticator.objects.get(user=owner).secret


@pytest.mark.django_db
class TestRotation:
    def test_it_moves_what_is_not_in_place_and_says_what_can_go(
        self, both: dict[str, str], settings: Settings, owner: Enrolled, capsys: pytest.CaptureFixture[str]
    ) -> None:
        made = many_keys(owner, 3)
        made[2][0].revoke()
        VaultKey.check_all()
        use(settings, both)
        call_command("rotate_vault")
        said = capsys.readouterr()
        assert "3 moved, 0 already had the newest keys." in said.out and "can be removed now" in said.out
        assert "100%  3 of 3" in said.err
        call_command("rotate_vault")
        assert "0 moved, 3 already had the newest keys." in capsys.readouterr().out
        use(settings, {"VAULT_KEYS": both["VAULT_KEYS"].split(",")[1], "DIGEST_KEYS": both["DIGEST_KEYS"]})
        VaultKey.check_all()
        assert made[0][0].reveal() == made[0][1]

    def test_recovery_codes_made_before_go_on_working(
        self, both: dict[str, str], settings: Settings, owner: Enrolled, codes: Iterator[str]
    ) -> None:
        use(settings, both)
        call_command("rotate_vault")
        assert authenticate(owner, next(codes)).name == "Recovery codes"

    def test_rows_that_cannot_be_opened_stay_and_are_told(
        self, both: dict[str, str], settings: Settings, owner: Enrolled, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (good, _), (bad, _), (swapped, _) = many_keys(owner, 3)
        ApiKey.objects.filter(pk=bad.pk).update(sealed_secret=good.sealed_secret)
        ApiKey.objects.filter(pk=swapped.pk).update(digest=b"0" * 32)
        Authenticator.objects.update(sealed_secret=b"nonsense")
        use(settings, both)
        with pytest.raises(CommandError, match="1 moved; 3 cannot be decrypted"):
            call_command("rotate_vault")
        assert Entry.objects.get(kind=Kind.FACTOR_DAMAGED).params == {"user": "owner", "factor": "totp"}
        damaged = Entry.objects.filter(kind=Kind.KEY_DAMAGED).values_list("key_id", flat=True)
        assert set(damaged) == {bad.pk, swapped.pk}

    def test_what_is_written_with_an_older_key_meanwhile_is_told(
        self, both: dict[str, str], settings: Settings, owner: Enrolled, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        new, old = use(settings, both), Vault(*OLD)
        show, shown = rotate_vault.Command.show, []

        def late(command: rotate_vault.Command) -> None:
            shown.append(command.done)
            if shown == [1, 1]:  # the authenticator, and then the whole of the first pass
                settings.VAULT = old
                many_keys(owner, 1)
                settings.VAULT = new
            show(command)

        monkeypatch.setattr(rotate_vault.Command, "show", late)
        with pytest.raises(CommandError, match="still writes with older keys"):
            call_command("rotate_vault")
        call_command("rotate_vault")

    def test_an_empty_database_has_nothing_to_move(self, capsys: pytest.CaptureFixture[str]) -> None:
        call_command("rotate_vault")
        assert "0 moved" in capsys.readouterr().out


@pytest.mark.django_db
class TestRetiringDigestKeys:
    @pytest.fixture
    def newest(self, both: dict[str, str]) -> dict[str, str]:
        """The new version of both keys alone."""
        return {name: keys.split(",")[1] for name, keys in both.items()}

    def test_it_waits_for_codes_and_keys_that_rest_on_older_ones(
        self,
        both: dict[str, str],
        newest: dict[str, str],
        settings: Settings,
        owner: Enrolled,
        other: Enrolled,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        (key, secret), (deleted, unknown) = many_keys(owner, 2)
        ((kept, _),) = many_keys(other, 1)
        deleted.revoke()
        VaultKey.check_all()
        RecoveryCodes.objects.filter(user=other).update(digests=[])  # has used all of them
        use(settings, both)
        newer, _ = ApiKey.objects.issue(other, uuid.uuid4())
        ApiKey.objects.filter(pk=kept.pk).delete_copies()
        with pytest.raises(CommandError, match="1 accounts have API keys that are shown once and rest .*: other. Have"):
            call_command("rotate_vault", "--retire")
        kept.revoke()
        with pytest.raises(CommandError, match="1 users have recovery codes that rest on older .*: owner. Have them"):
            call_command("rotate_vault", "--retire")
        with pytest.raises(ImproperlyConfigured, match="Version 1 of DIGEST_KEYS is missing"):
            use(settings, newest)
            VaultKey.check_all()
        use(settings, both)
        codes = RecoveryCodes.issue(owner)
        ApiKey.objects.filter(pk=newer.pk).delete_copies()
        call_command("rotate_vault", "--retire")
        assert "Older versions of DIGEST_KEYS can be removed now" in capsys.readouterr().out
        vault = use(settings, newest)
        VaultKey.check_all()
        assert authenticate(owner, codes[0]).name == "Recovery codes" and key.reveal() == secret
        assert ApiKey.objects.get(digest__in=vault.digests("api-key", secret)) == key
        assert not ApiKey.objects.filter(digest__in=vault.digests("api-key", unknown)).exists()


@pytest.mark.django_db
class TestKeysAtTheStart:
    def test_a_wrong_key_is_told(self, settings: Settings) -> None:
        VaultKey.check_all()
        VaultKey.check_all()
        use(settings, {"VAULT_KEYS": new_key(), "DIGEST_KEYS": OLD[1]})
        with pytest.raises(ImproperlyConfigured, match="Version 1 of VAULT_KEYS differs from the one"):
            VaultKey.check_all()

    @pytest.mark.django_db(transaction=True)
    def test_no_server_starts_with_it(self, settings: Settings) -> None:
        VaultKey.check_all()
        use(settings, {"VAULT_KEYS": new_key(), "DIGEST_KEYS": OLD[1]})
        with pytest.raises(SystemExit, match="differs from the one that this database was written with"):
            gunicorn_conf.on_starting(None)

    @pytest.mark.django_db(transaction=True)
    def test_nor_does_the_gate_with_a_wrong_digest_key(self, tmp_path: Path) -> None:
        VaultKey.check_all()
        own = {"DIGEST_KEYS": new_key(), "DATABASE_URL": database_url(), "CONSOLE_DATA_DIR": str(tmp_path)}
        command = [
            sys.executable,
            "-m",
            "gunicorn",
            "-c",
            "python:apikeys.gate.gunicorn_conf",
            "apikeys.gate.main:gate",
        ]
        ended = subprocess.run(command, cwd=ROOT, env=os.environ | own, capture_output=True, text=True, timeout=60)
        assert ended.returncode == 1
        assert "Version 1 of DIGEST_KEYS differs from the one that this database was written with" in ended.stderr

    def test_a_lost_key_is_told(self, settings: Settings, both: dict[str, str]) -> None:
        VaultKey.check_all()
        use(settings, {"VAULT_KEYS": OLD[0], "DIGEST_KEYS": both["DIGEST_KEYS"].split(",")[1]})
        with pytest.raises(ImproperlyConfigured, match="Version 1 of DIGEST_KEYS is missing"):
            VaultKey.check_all()


@pytest.mark.django_db
class TestAddingAVersion:
    @pytest.fixture
    def file(self, settings: Settings, tmp_path: Path) -> Path:
        settings.SECRETS_FILE = tmp_path / "secrets.env"
        settings.SECRETS_FILE.write_text(f"SECRET_KEY=x\nVAULT_KEYS={OLD[0]}\nDIGEST_KEYS={OLD[1]}\n")
        return tmp_path / "secrets.env"

    def test_to_secrets_env(self, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        call_command("rotate_vault", "--add")
        kept, vault, digest = file.read_text().splitlines()
        assert kept == "SECRET_KEY=x" and file.stat().st_mode & 0o777 == 0o600
        assert vault.startswith(f"VAULT_KEYS={OLD[0]},2:") and digest.startswith(f"DIGEST_KEYS={OLD[1]},2:")
        assert "restart the gates, then the consoles" in capsys.readouterr().out
        Vault(vault.partition("=")[2], digest.partition("=")[2])

    def test_not_more_than_the_gate_looks_up(
        self, file: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
    ) -> None:
        keys = OLD[1]
        for _ in range(7):
            keys = new_key(keys)
        settings.ENVIRONMENT = replace(settings.ENVIRONMENT, digest_keys=keys)
        file.write_text(f"# kept by hand\n\nVAULT_KEYS={OLD[0]}\nDIGEST_KEYS={keys}\n")
        call_command("rotate_vault", "--add")
        added = file.read_text()
        assert added.startswith(f"# kept by hand\n\nVAULT_KEYS={OLD[0]},2:") and f"\nDIGEST_KEYS={keys}\n" in added
        assert "DIGEST_KEYS is unchanged: it has 8 versions" in capsys.readouterr().out

    def test_not_where_it_cannot_be_written(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """As the files that systemd hands over."""
        (tmp := file.with_name("secrets.env.new")).mkdir()
        before = file.read_text()
        with pytest.raises(CommandError, match="cannot be written .* Add a version where it comes from"):
            call_command("rotate_vault", "--add")
        assert file.read_text() == before and tmp.is_dir()

    def test_not_where_the_environment_sets_them(self, file: Path) -> None:
        file.write_text("SECRET_KEY=x\n")
        with pytest.raises(CommandError, match="VAULT_KEYS does not come from"):
            call_command("rotate_vault", "--add")
        assert file.read_text() == "SECRET_KEY=x\n"


@pytest.mark.django_db
def test_a_new_secret_key_ends_what_the_earlier_one_has_signed_unless_it_is_kept(
    settings: Settings, mine: Client, other: Enrolled
) -> None:
    """Sessions, and links that set a password."""
    User.objects.filter(pk=other.pk).update(password="!")
    link = urlsplit(invite(User.objects.get(pk=other.pk))).path
    earlier, settings.SECRET_KEY = settings.SECRET_KEY, "another text of more than 32 random characters"
    settings.SECRET_KEY_FALLBACKS = [earlier]
    assert mine.get("/api-keys/").status_code == mine.get("/api-keys/").status_code == 200
    assert Client().get(link).status_code == 200
    settings.SECRET_KEY_FALLBACKS = []
    assert mine.get("/api-keys/").status_code == 200, "it was signed anew meanwhile"
    assert Client().get(link).status_code == 410
    settings.SECRET_KEY = earlier
    assert mine.get("/api-keys/").status_code == 302
