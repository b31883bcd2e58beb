"""Somebody with a browser and an authenticator app, over HTTP: for tests that need a running server."""

import base64
import ssl
from pathlib import Path
from typing import Self

import httpx
from django_otp.oath import totp

from tests.support import html
from tests.support.servers import PASSWORD as PASSWORD
from tests.support.waiting import wait_for as wait_for

NAME = "root"


def code(secret: str, ahead: int = 0) -> str:
    """What an authenticator app with that base32 secret shows, `ahead` steps of 30 s from now."""
    return f"{totp(base64.b32decode(secret), drift=ahead):06}"


def fields(page: str) -> dict[str, str]:
    """The hidden fields of the forms in a page's main part; the last of a name wins."""
    return {str(hidden["name"]): str(hidden["value"]) for hidden in html.select(page, "main input[type=hidden]")}


class Person:
    """A root account's owner: `log_on` first, which enrols an authenticator where there is none."""

    def __init__(self, address: str, certificate: Path | None = None) -> None:
        tls = ssl.create_default_context(cafile=certificate) if certificate else True
        headers = {"Origin": address}
        self.http = httpx.Client(base_url=address, headers=headers, verify=tls, follow_redirects=True, timeout=60)
        self.recovery_codes: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.http.close()

    def send(self, address: str, **data: str) -> httpx.Response:
        """POST the form of the page that `address` shows (or, for create, the list)."""
        page = self.http.get("/api-keys/" if "create" in address else address).text
        return self.http.post(address, data=fields(page) | data)

    def log_on(self) -> Self:
        page = self.send("/login/", username=NAME, password=PASSWORD)
        if "totp-secret" in page.text:
            self.totp_secret = html.text(page.text, "#totp-secret")
            page = self.send("/security/authenticator/", otp_token=code(self.totp_secret))
            self.recovery_codes = html.texts(page.text, "#recovery-codes li code")
        else:
            self.send("/login/verify/", otp_token=self.recovery_codes.pop())
        return self

    def create(self) -> tuple[str, str]:
        """A new key: its id and its secret."""
        before = set(self.key_ids())
        page = self.send("/api-keys/create/")
        assert page.status_code == 200, page.text
        (key_id,) = set(self.key_ids()) - before
        return key_id, html.attribute(page.text, "#api-key-value", "value")

    def key_ids(self) -> list[str]:
        rows = html.select(self.http.get("/api-keys/").text, "#api-keys tr[data-key-id]")
        return [str(row["data-key-id"]) for row in rows]

    def delete(self, key_id: str) -> httpx.Response:
        return self.send(f"/api-keys/{key_id}/delete/", otp_token=self.recovery_codes.pop())
