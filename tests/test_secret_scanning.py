"""Alerts of GitHub's secret scanning: where a key was found, and whether GitHub says so."""

import base64
import io
import json
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from django.core.management import call_command
from django.test import Client
from pytest_django import Settings

from apikeys.keys import format as keyformat
from apikeys.keys.models import ApiKey
from console.environment import ConfigurationError, read
from console.ledger.kinds import Kind
from console.ledger.models import Entry
from console.ledger.sentences import detail
from console.models import User
from console.outbox import Email
from console.signatures import public_keys
from console.vault import new_key
from tests.support import html
from tests.support.reports import alert, report
from tests.support.world import Enrolled, verified_client

pytestmark = pytest.mark.django_db


def sign(key: ec.EllipticCurvePrivateKey, body: bytes) -> bytes:
    return key.sign(body, ec.ECDSA(hashes.SHA256()))


def public_text(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def write_keys(file: Path, **keys: str) -> None:
    """As GitHub publishes them."""
    found = [{"key_identifier": name, "key": key, "is_current": True} for name, key in keys.items()]
    file.write_text(json.dumps({"public_keys": found}))


OTHER_CURVE = public_text(ec.generate_private_key(ec.SECP384R1()))
RSA = public_text(rsa.generate_private_key(65537, 2048))


class TestSecretScanning:
    def test_an_alert_is_a_report_and_its_url_goes_into_the_ledger_and_no_email(
        self, owner: Enrolled, made: tuple[ApiKey, str]
    ) -> None:
        User.objects.filter(pk=owner.pk).update(email="owner@example.org")
        answer = report(alert(made[1], keyformat.new_secret(), made[1]))
        assert (answer.status_code, answer.json()) == (202, {"received": 3})
        assert ApiKey.objects.get().deleted_at
        entry = Entry.objects.get(kind=Kind.KEY_LEAKED)
        assert entry.params == {"reason": "reported", "url": "https://github.com/o/r/blob/main/.env"}
        said = "According to the report, it was found at https://github.com/o/r/blob/main/.env."
        assert "github.com" not in Email.objects.get().body, "a stranger chose it"
        assert said in html.text(verified_client(owner).get("/activity/").content, "#activity")
        call_command("verify_ledger", stdout=io.StringIO())

    @pytest.mark.parametrize(
        "url",
        [
            "",
            None,
            7,
            "javascript:alert(1)",
            "ftp://example.org",
            "https://example.org/\nSubject: x",
            "https://example.org/ and more",
            "https://" + "x" * 501,
            "https://éxample.org",
        ],
    )
    def test_what_is_no_url_is_left_out(self, made: tuple[ApiKey, str], url: object) -> None:
        assert report(alert(made[1], url=url)).status_code == 202
        entry = Entry.objects.get(kind=Kind.KEY_LEAKED)
        assert entry.params == {} and detail(entry) == ""

    def test_no_key_is_in_what_is_kept_of_the_url(self, made: tuple[ApiKey, str]) -> None:
        report(alert(made[1], url=f"https://example.org/risk-management1?q={made[1]}&{made[1]}"))
        kept = Entry.objects.get(kind=Kind.KEY_LEAKED).params["url"]
        assert kept == "https://example.org/risk-management1?q=sk-...&sk-..."

    def test_of_two_reports_of_one_key_a_url_is_kept(self, made: tuple[ApiKey, str]) -> None:
        report({"keys": [made[1], *alert(made[1]), made[1]]})
        assert "url" in Entry.objects.get(kind=Kind.KEY_LEAKED).params


class TestSignatures:
    """GitHub's: of the raw body, by one of the public keys that a setting names."""

    @pytest.fixture
    def signing(self, tmp_path: Path, settings: Settings) -> ec.EllipticCurvePrivateKey:
        key = ec.generate_private_key(ec.SECP256R1())
        settings.LEAK_REPORT_PUBLIC_KEYS = tmp_path / "keys.json"
        write_keys(settings.LEAK_REPORT_PUBLIC_KEYS, current=public_text(key))
        return key

    def send(self, body: bytes, identifier: str | None = "current", signature: bytes | str | None = None) -> Any:
        text = base64.b64encode(signature).decode() if isinstance(signature, bytes) else signature
        headers = {"Github-Public-Key-Identifier": identifier, "Github-Public-Key-Signature": text}
        sent = {name: value for name, value in headers.items() if value is not None}
        return Client().post("/leaked-keys", body, content_type="application/json", headers=sent)

    def test_one_that_verifies_is_said_in_the_ledger(
        self, made: tuple[ApiKey, str], signing: ec.EllipticCurvePrivateKey
    ) -> None:
        body = json.dumps(alert(made[1]), indent=3).encode()
        assert self.send(body, signature=sign(signing, body)).status_code == 202
        entry = Entry.objects.get(kind=Kind.KEY_LEAKED)
        said = "According to a report with a verified signature, it was found at https://github.com/o/r/blob/main/.env."
        assert detail(entry) == said

    def test_githubs_own_example_verifies(self, settings: Settings, tmp_path: Path) -> None:
        """From its document of the secret scanning partner program, as of 2021."""
        settings.LEAK_REPORT_PUBLIC_KEYS = tmp_path / "keys.json"
        key = (
            "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEsz9ugWDj5jK5ELBK42ynytbo38gP\n"
            "HzZFI03Exwz8Lh/tCfL3YxwMdLjB+bMznsanlhK0RwcGP3IDb34kQDIo3Q==\n-----END PUBLIC KEY-----\n"
        )
        write_keys(settings.LEAK_REPORT_PUBLIC_KEYS, current=key)
        body = b'[{"token":"some_token","type":"some_type","url":"some_url","source":"some_source"}]'
        signature = "MEUCIFLZzeK++IhS+y276SRk2Pe5LfDrfvTXu6iwKKcFGCrvAiEAhHN2kDOhy2I6eGkOFmxNkOJ+L2y8oQ9A2T9GGJo6WJY="
        assert self.send(body, signature=signature).json() == {"received": 1}
        assert self.send(body + b" ", signature=signature).status_code == 400

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            ({"body": b"[]  "}, "one key per line"),
            ({"signature": None}, "The signature of the report is invalid."),
            ({"signature": "nonsense"}, "The signature of the report is invalid."),
            ({"signature": b"nonsense"}, "The signature of the report is invalid."),
            ({"identifier": "another"}, "The report is signed with an unknown key."),
            ({"identifier": None}, "The report is signed with an unknown key."),
        ],
    )
    def test_one_that_does_not_is_refused_and_deletes_nothing(
        self, made: tuple[ApiKey, str], signing: ec.EllipticCurvePrivateKey, change: dict[str, Any], why: str
    ) -> None:
        body = json.dumps(alert(made[1])).encode()
        answer = self.send(**{"body": body, "signature": sign(signing, body)} | change)
        assert answer.status_code == 400 and why in answer.json()["message"]
        assert not ApiKey.objects.get().deleted_at

    def test_of_another_body_or_by_another_key_it_is_refused(
        self, made: tuple[ApiKey, str], signing: ec.EllipticCurvePrivateKey
    ) -> None:
        body = json.dumps(alert(made[1])).encode()
        other = ec.generate_private_key(ec.SECP256R1())
        for signature in (sign(signing, body.replace(b" ", b"")), sign(other, body)):
            assert self.send(body, signature=signature).status_code == 400
        assert not ApiKey.objects.get().deleted_at

    def test_a_new_key_is_known_without_a_restart(
        self, made: tuple[ApiKey, str], signing: ec.EllipticCurvePrivateKey, settings: Settings
    ) -> None:
        new, body = ec.generate_private_key(ec.SECP256R1()), json.dumps(alert(made[1])).encode()
        assert self.send(body, "new", sign(new, body)).status_code == 400
        write_keys(settings.LEAK_REPORT_PUBLIC_KEYS, current=public_text(signing), new=public_text(new))
        assert self.send(body, "new", sign(new, body)).status_code == 202

    @pytest.mark.parametrize("text", ["{", None])
    def test_where_the_keys_are_gone_it_is_refused_and_the_log_says_so(
        self,
        made: tuple[ApiKey, str],
        signing: ec.EllipticCurvePrivateKey,
        settings: Settings,
        caplog: pytest.LogCaptureFixture,
        text: str | None,
    ) -> None:
        file, body = settings.LEAK_REPORT_PUBLIC_KEYS, json.dumps(alert(made[1])).encode()
        file.write_text(text) if text else file.unlink()
        answer = self.send(body, signature=sign(signing, body))
        assert answer.status_code == 400 and "unknown key" in answer.json()["message"]
        assert f"LEAK_REPORT_PUBLIC_KEYS: {file} is no longer readable" in caplog.text
        assert report(made[1], "text/plain").status_code == 202

    def test_without_a_signature_reports_go_on(
        self, made: tuple[ApiKey, str], signing: ec.EllipticCurvePrivateKey
    ) -> None:
        assert report(made[1], "text/plain").status_code == 202
        assert ApiKey.objects.get().deleted_at

    def test_without_public_keys_a_signature_is_not_looked_at(self, made: tuple[ApiKey, str]) -> None:
        assert self.send(json.dumps(alert(made[1])).encode(), "any", "any").status_code == 202
        assert Entry.objects.get(kind=Kind.KEY_LEAKED).params["reason"] == "reported"


def test_the_file_is_one_with_keys(tmp_path: Path) -> None:
    file, key = tmp_path / "keys.json", ec.generate_private_key(ec.SECP256R1())
    secrets = {"SECRET_KEY": token_urlsafe(48), "VAULT_KEYS": new_key(), "DIGEST_KEYS": new_key()}
    write_keys(file)
    with pytest.raises(ConfigurationError, match="The file has no ECDSA public keys on P-256."):
        read(secrets | {"LEAK_REPORT_PUBLIC_KEYS": str(file)})
    write_keys(file, current=public_text(key))
    assert read(secrets | {"LEAK_REPORT_PUBLIC_KEYS": str(file)}).leak_report_public_keys == file


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"public_keys": [{"key_identifier": "x"}]}', '{"public_keys": [{"key": 1}]}', "[" * 60_000]
    + [json.dumps({"public_keys": [{"key_identifier": "x", "key": key}]}) for key in ("x", OTHER_CURVE, RSA)],
)
def test_what_are_no_public_keys_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        public_keys(text)
