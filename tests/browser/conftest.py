from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext

from tests.support.servers import Server


@pytest.fixture
def context(chromium: Browser, fresh_server: Server) -> Iterator[BrowserContext]:
    context = chromium.new_context(base_url=fresh_server.address, permissions=["clipboard-read", "clipboard-write"])
    context.set_default_timeout(15_000)
    yield context
    context.close()
