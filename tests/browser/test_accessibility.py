"""axe-core finds nothing on any page or dialog, in both colour schemes; and the keyboard is enough."""

import re
import subprocess
import sys

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.test_journey import log_on_and_enrol, verify
from tests.support.person import NAME, PASSWORD, code
from tests.support.servers import ROOT, Server

pytestmark = pytest.mark.browser


def check(page: Page) -> None:
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found = Axe().run(page)
        assert found.violations_count == 0, f"{page.url} ({scheme})\n{found.generate_report()}"


def test_axe_finds_no_violation(context: BrowserContext) -> None:
    page = context.new_page()
    page.goto("/")
    check(page)
    page.get_by_label("User name").fill(NAME)
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Log on").click()
    check(page)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log on").click()
    expect(page.locator("#totp-secret")).to_be_visible()
    check(page)
    page.get_by_label("Code shown in the app").fill(code(page.locator("#totp-secret").inner_text()))
    page.get_by_role("button", name="Verify").click()
    expect(page.locator("#recovery-codes li code")).to_have_count(10)
    codes = page.locator("#recovery-codes li code").all_inner_texts()
    check(page)
    page.get_by_role("link", name="I have stored them").click()
    check(page)
    for _ in range(3):
        page.get_by_role("button", name="Create New API Key").click()
        check(page)
        page.get_by_role("button", name="Close").click()
    check(page)
    page.get_by_role("button", name="Create New API Key").click(force=True)  # aria-disabled, and sent all the same
    expect(page.get_by_role("alert")).to_contain_text("You have 3 of 3 API keys")
    check(page)
    page.get_by_role("link", name="View").first.click()
    check(page)
    verify(page, "000000")
    check(page)
    verify(page, codes.pop())
    expect(page.locator("#api-key-value")).to_be_visible()
    check(page)
    page.get_by_role("button", name="Close").click()
    page.get_by_role("link", name="Delete").first.click()
    check(page)
    page.get_by_role("button", name="Confirm Deletion").click()
    check(page)
    verify(page, codes.pop())
    page.get_by_text("Deleted keys").click()
    check(page)
    for address, title in (
        ("/api-keys/usage/", "Usage"),
        ("/activity/", "Activity"),
        ("/activity/?kind=user.locked_out", "Activity"),
        ("/security/", "Security"),
        ("/security/sessions/", "Sessions"),
        ("/security/password/", "Change password"),
        ("/security/email/", "Change email"),
        ("/security/show-once/", "Show API keys once"),
        ("/security/authenticator/", "Authenticator app"),
        ("/security/recovery-codes/", "Generate new recovery codes"),
        ("/nothing-here", "Page not found"),
        ("/api-keys/create/", "Method not allowed"),
        ("/login/?ended=1&next=/security/", "Security"),
    ):
        page.goto(address)
        expect(page).to_have_title(f"{title} · API Key Console")
        check(page)
    page.goto("/security/show-once/")
    page.get_by_label("Delete them").check()
    page.get_by_label("Security code").fill(codes.pop())
    page.get_by_role("button", name="Show new keys once").click()
    expect(page.get_by_role("status").last).to_contain_text("are shown once")
    page.get_by_role("link", name="Show API keys once").click()
    expect(page.get_by_label("Security code")).to_be_visible()
    check(page)
    page.get_by_role("link", name="API Key Management").click()
    page.get_by_role("link", name="View").first.click()
    expect(page.get_by_role("dialog")).to_contain_text("This API key cannot be viewed")
    check(page)
    page.get_by_role("dialog").get_by_role("button", name="Create New API Key").click()
    expect(page.locator("#api-key-value")).to_be_visible()
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Log out").click()
    page.get_by_label("User name").fill(NAME)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log on").click()
    expect(page.get_by_label("Security code")).to_be_visible()
    check(page)
    context.clear_cookies(name="csrftoken")
    page.get_by_role("button", name="Verify").evaluate("(button) => button.form.submit()")
    expect(page).to_have_title("Form expired · API Key Console")
    check(page)
    context.clear_cookies()
    for _ in range(10):
        page.goto("/login/")
        page.get_by_label("User name").fill("guessed")
        page.get_by_label("Password").fill("wrong")
        page.get_by_role("button", name="Log on").click()
        expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_role("alert")).to_contain_text("Too many incorrect passwords")
    check(page)
    page.goto("/login/")
    too_many = "(form) => { for (let n = 0; n < 1001; n++) form.append(form[0].cloneNode()); form.submit() }"
    page.locator("main form").evaluate(too_many)
    expect(page).to_have_title("Bad request · API Key Console")  # the page of a failure but for its words
    check(page)


def test_nor_on_what_a_recovery_link_opens(context: BrowserContext, fresh_server: Server) -> None:
    command = [sys.executable, "manage.py", "breakglass", NAME]
    printed = subprocess.check_output(command, cwd=ROOT, env=fresh_server.environment, text=True)
    (path,) = re.findall(r"/recovery/\S+", printed)
    page = context.new_page()
    page.goto(path)
    check(page)
    page.get_by_label("New password").fill("short")
    page.get_by_role("button", name="Set password").click()
    expect(page.locator(".errorlist")).to_be_visible()
    check(page)
    page.get_by_label("New password").fill("a quite different sentence")
    page.get_by_role("button", name="Set password").click()
    expect(page.get_by_role("button", name="Log on")).to_be_visible()
    for gone in (path, path.replace("/recovery/", "/recovery/cancel/")):
        page.goto(gone)
        expect(page.get_by_role("heading")).to_have_text("This link is no longer valid")
        check(page)


def test_a_second_click_while_the_first_is_on_its_way_does_no_harm(context: BrowserContext) -> None:
    page = context.new_page()
    page.goto("/")
    page.get_by_label("User name").fill(NAME)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log on").click()
    page.get_by_label("Code shown in the app").fill(code(page.locator("#totp-secret").inner_text()))
    page.evaluate("document.querySelectorAll('main form button').forEach((b) => { b.click(); b.click(); })")
    expect(page.locator("#recovery-codes li code")).to_have_count(10)


def test_the_keyboard_is_enough(context: BrowserContext) -> None:
    page = context.new_page()
    log_on_and_enrol(page)
    page.get_by_role("button", name="Create New API Key").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Copy")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("[data-copied]")).to_have_text("Copied to the clipboard.")
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)
    page.get_by_role("link", name="View").press("Enter")
    expect(page.get_by_label("Security code")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)


def test_back_and_reload_show_no_key(context: BrowserContext) -> None:
    page = context.new_page()
    log_on_and_enrol(page)
    page.get_by_role("button", name="Create New API Key").click()
    secret = page.locator("#api-key-value").input_value()
    page.reload()
    expect(page.locator("#api-keys")).to_be_visible()
    assert secret not in page.content()
    page.get_by_role("link", name="Security").click()
    page.go_back()
    expect(page.locator("#api-keys")).to_be_visible()
    assert secret not in page.content()
    assert page.evaluate("JSON.stringify([localStorage.length, sessionStorage.length])") == "[0,0]"


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_screen(context: BrowserContext, width: int) -> None:
    page = context.new_page()
    page.set_viewport_size({"width": width, "height": 740})
    log_on_and_enrol(page)
    page.get_by_role("button", name="Create New API Key").click()
    expect(page.locator("#api-key-value")).to_be_visible()
    for close in (True, False):
        assert page.locator("html").evaluate("(html) => html.scrollWidth") <= width
        if close:
            page.get_by_role("button", name="Close").click()
            expect(page.locator("dialog")).to_have_count(0)
