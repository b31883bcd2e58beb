"""`make picture`: renews docs/console.png from the product as it is, on a data folder that is thrown away.

The key in the picture is masked before it is taken: no reader, and no scanner for secrets, has to wonder about it.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import httpx
from playwright.sync_api import Page, sync_playwright

from tests.support.person import NAME, PASSWORD, code
from tests.support.servers import ROOT, Server, running
from tests.support.waiting import wait_for

WIDTH, HEIGHT = 1280, 640
MASK = "field => { field.value = field.value.slice(0, 7) + '•'.repeat(30) + field.value.slice(-4) }"


def log_on(page: Page) -> None:
    """Through both steps, with an authenticator that is enrolled on the way."""
    page.goto("/")
    page.fill("[name=username]", NAME)
    page.fill("[name=password]", PASSWORD)
    page.get_by_role("button", name="Log on").click()
    page.fill("[name=otp_token]", code(page.locator("#totp-secret").inner_text()))
    page.get_by_role("button", name="Verify").click()
    page.wait_for_selector("#recovery-codes")
    page.goto("/api-keys/")


def create(page: Page) -> str:
    """A key; its dialog is open."""
    page.get_by_role("button", name="Create New API Key").click()
    return page.locator("#api-key-value").input_value()


def call(server: Server, secret: str) -> None:
    """One call with that key, as a gateway passes it on."""
    headers = {"dashvector-auth-token": secret, "X-Forwarded-For": "192.0.2.7"}  # RFC 5737: an address for documents
    httpx.get(f"http://127.0.0.1:{server.gate_port}/verify", headers=headers).raise_for_status()


def take(file: Path) -> None:
    chromium = shutil.which("chromium") or sys.exit("chromium is missing; install it (Debian's package chromium).")
    with (
        tempfile.TemporaryDirectory() as folder,
        running(Path(folder, "data"), TRUSTED_PROXIES="127.0.0.1") as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(
            base_url=server.address, color_scheme="light", viewport={"width": WIDTH, "height": HEIGHT}
        )
        log_on(page)
        call(server, create(page))
        wait_for(lambda: page.goto("/api-keys/") and page.get_by_text("192.0.2.7").count())
        create(page)
        page.locator("#api-key-value").evaluate(MASK)
        page.screenshot(path=file)
        browser.close()


if __name__ == "__main__":
    os.environ.pop("DATABASE_URL", None)
    take(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "docs" / "console.png")
