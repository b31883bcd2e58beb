"""What a browser shows where a creation is refused."""

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.test_journey import log_on_and_enrol
from tests.support.servers import Server

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("scripted", [True, False])
def test_a_creation_at_the_limit_leads_back_to_the_list_with_the_reason(
    chromium: Browser, fresh_server: Server, scripted: bool
) -> None:
    context = chromium.new_context(base_url=fresh_server.address, java_script_enabled=scripted)
    page, create = context.new_page(), "Create New API Key"
    log_on_and_enrol(page)
    for _ in range(3):
        page.get_by_role("button", name=create).click()
        page.get_by_role("button", name="Close").click()
    with page.expect_response(lambda response: response.url.endswith("/api-keys/create/")) as answer:
        page.get_by_role("button", name=create).click(force=True)  # aria-disabled: it can be pressed
    assert answer.value.status == 409
    expect(page.get_by_role("alert")).to_contain_text("You have 3 of 3 API keys. To create a new one, first delete")
    expect(page.locator("tr[data-key-id]")).to_have_count(3)
    if scripted:
        expect(page).to_have_url(f"{fresh_server.address}/api-keys/")
        page.reload()  # sends nothing again
    else:
        page.get_by_role("link", name="API Key Management").click()
    expect(page).to_have_url(f"{fresh_server.address}/api-keys/")
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.locator("#refusal")).to_contain_text("You have 3 of 3 API keys")
    page.get_by_role("link", name="Activity").click()
    events = page.locator("#activity tbody td:nth-child(2)")
    expect(events.filter(has_text="API key creation refused3 of 3 API keys were in use.")).to_have_count(1)
    context.close()
