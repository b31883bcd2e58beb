"""The lists of an account that has been used for years, in Chromium."""

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.test_accessibility import check
from tests.browser.test_journey import log_on_and_enrol
from tests.support.servers import Server

pytestmark = pytest.mark.browser
PATHS = ("/api-keys/?q=sk", "/api-keys/?q=nothing", "/activity/?q=sk", "/api-keys/usage/", "/security/sessions/")
FILL = """
from console.models import User
from tests.support import filling
User.objects.filter(username="root").update(is_staff=True)
root = User.objects.get(username="root")
keys = filling.keys(root, 120)
filling.usage(keys, 2)
filling.keys(root, 25, deleted=True)
filling.ledger(root, 120, keys)
filling.sessions(root, 120)
User.objects.create(username="somebody", account=None)
"""


def test_they_fit_any_screen_and_are_read_by_anyone(context: BrowserContext, fresh_server: Server) -> None:
    page = context.new_page()
    log_on_and_enrol(page)
    fresh_server.run_script(FILL)
    for path in PATHS:
        page.goto(path)
        check(page)
        for width in (360, 1280):
            page.set_viewport_size({"width": width, "height": 740})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (path, width)
            assert page.evaluate("scrollY") == 0, "nothing below is in focus"


def test_a_key_is_searched_for_and_its_dialog_leads_back(context: BrowserContext, fresh_server: Server) -> None:
    page = context.new_page()
    log_on_and_enrol(page)
    fresh_server.run_script(FILL)
    page.goto("/api-keys/")
    page.get_by_role("link", name="Next").click()
    hint = page.locator("#api-keys th[scope=row]").first.inner_text()
    page.get_by_role("searchbox", name="Search API keys").fill(hint)
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name=f"Delete {hint}").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("dialog")).to_have_count(0)
    expect(page.locator("#api-keys th[scope=row]")).to_have_text([hint])
    page.get_by_role("link", name="Clear search").click()
    expect(page.locator("#api-keys th[scope=row]")).to_have_count(50)


def test_an_operator_finds_an_account_by_typing(context: BrowserContext, fresh_server: Server) -> None:
    page = context.new_page()
    codes = log_on_and_enrol(page)
    fresh_server.run_script(FILL)
    page.goto("/admin/console/user/add/")
    page.get_by_role("combobox").first.click()
    page.locator(".select2-search__field").fill("someb")
    page.get_by_role("option", name="somebody").click()
    page.get_by_label("Username").fill("member")
    page.get_by_label("Security code").fill(codes[0])
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".invitation")).to_be_visible()
    page.goto("/admin/console/user/?q=member")
    expect(page.locator("#result_list .field-account")).to_have_text("somebody")
