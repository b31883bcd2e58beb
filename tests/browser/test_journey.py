"""The document's whole journey, in Chromium, from the first log-on to the deletion."""

import re

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.support.person import NAME, PASSWORD, code
from tests.support.servers import Server

pytestmark = pytest.mark.browser


def log_on_and_enrol(page: Page) -> list[str]:
    """Through both steps; the recovery codes."""
    page.goto("/")
    page.get_by_label("User name").fill(NAME)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log on").click()
    expect(page.locator(".qr svg")).to_be_visible()
    page.get_by_label("Code shown in the app").fill(code(page.locator("#totp-secret").inner_text()))
    page.get_by_role("button", name="Verify").click()
    expect(page.locator("#recovery-codes li code")).to_have_count(10)
    codes = page.locator("#recovery-codes li code").all_inner_texts()
    page.get_by_role("link", name="I have stored them").click()
    return codes


def verify(page: Page, security_code: str) -> None:
    page.get_by_label("Security code").fill(security_code)
    page.get_by_role("button", name="Verify").click()


def journey(page: Page, *, scripted: bool) -> None:
    codes = log_on_and_enrol(page)
    expect(page).to_have_title(re.compile("API Key Management"))

    page.get_by_role("button", name="Create New API Key").click()
    value = page.locator("#api-key-value")
    secret = value.input_value()
    assert re.fullmatch(r"sk-[0-9A-Za-z]{38}", secret)
    if scripted:
        page.get_by_role("button", name="Copy").click()
        expect(page.locator("[data-copied]")).to_have_text("Copied to the clipboard.")
        assert page.evaluate("navigator.clipboard.readText()") == secret
        assert page.evaluate("document.querySelector('dialog').matches(':modal')")
    page.get_by_role("button", name="Close").click()
    expect(page.locator("dialog")).to_have_count(0)
    assert secret not in page.content()

    page.get_by_role("link", name="View").click()
    verify(page, codes.pop())
    assert value.input_value() == secret
    page.get_by_role("button", name="Close").click()

    page.get_by_role("link", name="View").click()  # asked again: no window, no memory
    verify(page, "000000")
    expect(page.get_by_role("dialog")).to_contain_text("The code is incorrect")
    page.get_by_role("button", name="Cancel").click()

    page.get_by_role("link", name="Delete").click()
    page.get_by_role("button", name="Confirm Deletion").click()
    verify(page, codes.pop())
    expect(page.get_by_role("status")).to_contain_text("has been deleted")
    expect(page.locator("tr[data-key-id]")).to_have_count(0)


def test_it_works_as_the_document_says(context: BrowserContext) -> None:
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if "Content Security" in message.text else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    journey(page, scripted=True)
    assert problems == []
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(re.compile("/login/"))


def test_it_works_without_javascript(chromium: Browser, fresh_server: Server) -> None:
    context = chromium.new_context(base_url=fresh_server.address, java_script_enabled=False)
    journey(context.new_page(), scripted=False)
    context.close()


def test_where_the_browser_blocks_the_clipboard_the_key_is_selected(context: BrowserContext) -> None:
    context.add_init_script("navigator.clipboard.writeText = () => Promise.reject()")
    page = context.new_page()
    log_on_and_enrol(page)
    page.get_by_role("button", name="Create New API Key").click()
    page.get_by_role("button", name="Copy").click()
    expect(page.locator("[data-copied]")).to_contain_text("press Ctrl+C")
    assert page.evaluate("getSelection().toString()") == page.locator("#api-key-value").input_value()
