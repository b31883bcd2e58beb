"""Somebody with a browser and an authenticator app, over HTTP: for tests that need a running server."""

import base64
import re
import ssl
import time
from html import unescape
from pathlib import Path
from typing import Self

import httpx
from django_otp.oath import totp

NAME, PASSWORD = "root", "correct horse battery staple"


def code(secret: str, ahead: int = 0) -> str:
    """What an authenticator app with that base32 secret shows, `ahead` steps of 30 s from now."""
    return f"{totp(base64.b32decode(secret), drift=ahead):06}"


def fields(page: str) -> dict[str, str]:
    """The hidden fields of a page's forms, except the log-out's: the last of a name wins."""
    return {
        match["name"]: unescape(match["value"])
        for match in re.finditer(r'<input type="hidden" name="(?P<name>[^"]+)" value="(?P<value>[^"]*)"', page)
    }


def element(page: str, pattern: str) -> str:
    match = re.search(pattern, page)
    assert match, page
    return unescape(match[1])


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
            self.totp_secret = element(page.text, r'id="totp-secret">([A-Z2-7]+)<')
            page = self.send("/security/authenticator/", otp_token=code(self.totp_secret))
            self.recovery_codes = re.findall(r"<li><code>([^<]+)</code></li>", page.text)
        else:
            self.send("/login/verify/", otp_token=self.recovery_codes.pop())
        return self

    def create(self) -> tuple[str, str]:
        """A new key: its id and its secret."""
        before = set(self.key_ids())
        page = self.send("/api-keys/create/")
        assert page.status_code == 200, page.text
        (key_id,) = set(self.key_ids()) - before
        return key_id, element(page.text, r'id="api-key-value"[^>]*value="([^"]+)"')

    def key_ids(self) -> list[str]:
        return re.findall(r'data-key-id="([^"]+)"', self.http.get("/api-keys/").text)

    def delete(self, key_id: str) -> httpx.Response:
        return self.send(f"/api-keys/{key_id}/delete/", otp_token=self.recovery_codes.pop())


def wait_for(condition: object, seconds: float = 30) -> None:
    """Until `condition()` holds; fails after that many seconds."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain"
        time.sleep(0.02)
