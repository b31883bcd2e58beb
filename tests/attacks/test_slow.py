"""Slow clients by the thousand, and a person who works at the console meanwhile."""

import contextlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.attacks.conftest import Site
from tests.browser.test_journey import log_on_and_enrol
from tests.support.nginx import connections
from tests.support.person import wait_for

pytestmark = [pytest.mark.browser, pytest.mark.gateway, pytest.mark.slow_clients]
CONNECTIONS = 1500
LIMITS = False  # as from as many addresses
LONG = "/static/admin/js/vendor/xregexp/xregexp.js"  # more than a connection's buffers hold
WAYS = {
    "headers": ["-H", "-i", "5", "-u", "{address}/login/"],
    "bodies": ["-B", "-i", "5", "-s", "8192", "-u", "{address}/login/"],
    "reading": ["-X", "-w", "512", "-y", "1024", "-n", "5", "-z", "32", "-u", "{address}" + LONG],
}


@contextlib.contextmanager
def slow_clients(way: str, address: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    words = [word.format(address=address) for word in WAYS[way]]
    command = ["slowhttptest", "-c", str(CONNECTIONS), "-r", "1000", "-l", "60", "-p", "5", *words]
    with (folder / "slowhttptest").open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.parametrize("way", WAYS)
def test_a_person_works_while_slow_clients_hold_on(
    fresh_site: Site, chromium: Browser, way: str, tmp_path: Path
) -> None:
    port = int(fresh_site.address.rpartition(":")[2])
    context = chromium.new_context(base_url=fresh_site.address, ignore_https_errors=True)
    context.set_default_timeout(15_000)
    with slow_clients(way, fresh_site.address, tmp_path) as attack:
        wait_for(lambda: connections(port) > CONNECTIONS * 0.8)
        page = context.new_page()
        page.goto("/")
        assert attack.poll() is None and connections(port) > CONNECTIONS / 2, "they are there still"
        log_on_and_enrol(page)
        page.get_by_role("button", name="Create New API Key").click()
        expect(page.locator("#api-key-value")).to_have_value(re.compile("^sk-"))
    context.close()
