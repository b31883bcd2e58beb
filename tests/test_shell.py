"""What surrounds every answer: headers, cookies, TLS behind a proxy, and logs."""

import json
from collections.abc import Iterator

import httpx
import pytest

from apikeys.keys import format as keyformat
from tests.support import html
from tests.support.addresses import OPEN, PASSWORD_ONLY
from tests.support.person import NAME, PASSWORD, fields
from tests.support.servers import Server, running

pytestmark = pytest.mark.once
HEADERS = {
    "strict-transport-security": "max-age=31536000; includeSubDomains",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
ADDRESSES = [*OPEN, *PASSWORD_ONLY, "/api-keys/", "/activity/", "/admin/", "/nothing-here", "/static/icon.svg"]


@pytest.fixture(scope="module")
def behind_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The product as it runs behind a proxy at 127.0.0.1 that speaks TLS for it."""
    folder = tmp_path_factory.mktemp("tls") / "data"
    with running(folder, CONSOLE_URL="https://keys.example.org", TRUSTED_PROXIES="127.0.0.1,unix") as started:
        yield started


@pytest.fixture
def browser(behind_tls: Server) -> Iterator[httpx.Client]:
    headers = {"X-Forwarded-Proto": "https", "Referer": "https://127.0.0.1/"}
    with httpx.Client(base_url=behind_tls.address, headers=headers) as http:
        yield http


@pytest.mark.parametrize("address", ADDRESSES)
def test_every_answer_has_the_headers(address: str, browser: httpx.Client) -> None:
    answer = browser.get(address)
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert len(answer.headers["x-request-id"]) == 32
    assert "access-control-allow-origin" not in answer.headers
    if "/static/" not in address:
        assert "no-store" in answer.headers["cache-control"]
    for cookie in answer.headers.get_list("set-cookie"):
        assert cookie.startswith("__Host-") and "Domain" not in cookie
        assert all(part in cookie for part in ("; Secure", "; HttpOnly", "; SameSite=Lax", "; Path=/")), cookie


def test_violations_are_reported_over_tls(browser: httpx.Client, server: Server) -> None:
    answer = browser.get("/login/")
    assert "report-uri /csp-reports" in answer.headers["content-security-policy"]
    assert "report-to csp" in answer.headers["content-security-policy"]
    assert answer.headers["reporting-endpoints"] == 'csp="https://keys.example.org/csp-reports"'
    without = httpx.get(f"{server.address}/login/")
    assert "report-uri" in without.headers["content-security-policy"], "browsers know no other way without TLS"
    assert (
        "report-to" not in without.headers["content-security-policy"] and "reporting-endpoints" not in without.headers
    )


def test_the_session_cookie_is_of_the_same_kind(browser: httpx.Client) -> None:
    page = browser.get("/login/")
    token = page.headers["set-cookie"].partition(";")[0]
    data = fields(page.text) | {"username": NAME, "password": PASSWORD}
    answer = browser.post("/login/", data=data, headers={"Cookie": token, "Origin": "https://keys.example.org"})
    assert answer.status_code == 302
    (cookie,) = [one for one in answer.headers.get_list("set-cookie") if one.startswith("__Host-sessionid=")]
    assert all(part in cookie for part in ("; Secure", "; HttpOnly", "; SameSite=Lax", "; Path=/"))
    assert "Max-Age" not in cookie and "expires" not in cookie.lower()


def test_without_tls_one_is_sent_to_it(behind_tls: Server) -> None:
    answer = httpx.get(behind_tls.address + "/login/")
    assert (answer.status_code, answer.headers["location"][:8]) == (301, "https://")
    assert httpx.get(behind_tls.address + "/healthz").status_code == 200


def test_a_foreign_name_is_refused_with_every_header(behind_tls: Server) -> None:
    """Before it is led to TLS as well, and before anything knows who asks."""
    for proto in ("http", "https"):
        headers = {"Host": "evil.example", "X-Forwarded-Proto": proto}
        answer = httpx.get(behind_tls.address + "/login/", headers=headers)
        assert answer.status_code == 400 and html.text(answer.text, "h1")
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert (answer.headers["cache-control"], answer.headers["x-frame-options"]) == ("no-store", "DENY")
    assert "Traceback" not in behind_tls.errors.read_text() + behind_tls.output.read_text()


def test_the_word_of_others_than_the_proxy_is_not_taken(server: Server) -> None:
    spoofed = httpx.get(server.address + "/login/", headers={"X-Forwarded-Proto": "https"})
    assert "strict-transport-security" not in spoofed.headers


def test_the_log_has_the_address_that_the_proxy_says(behind_tls: Server, browser: httpx.Client) -> None:
    answer = browser.get("/login/", headers={"X-Forwarded-For": "198.51.100.1, 203.0.113.7"})
    lines = [line for line in behind_tls.output.read_text().splitlines() if answer.headers["x-request-id"] in line]
    assert [json.loads(line)["address"] for line in lines] == ["203.0.113.7"]


class TestLogs:
    def lines(self, server: Server) -> list[dict[str, object]]:
        return [json.loads(line) for line in server.output.read_text().splitlines() if line.startswith("{")]

    def test_a_line_is_a_json_object_with_the_requests_id(self, server: Server) -> None:
        answer = httpx.get(server.address + "/nothing%0d%0ahere%1b[31m%c2%85%e2%80%a8")
        (line,) = [one for one in self.lines(server) if one["request_id"] == answer.headers["x-request-id"]]
        assert (line["path"], line["status"], line["method"]) == ("/nothing\r\nhere\x1b[31m\x85\u2028", 404, "GET")
        assert str(line["at"]).endswith("+00:00") and line["address"] == "127.0.0.1"

    def test_what_a_client_does_wrong_is_a_line_without_a_traceback(self, server: Server) -> None:
        answer = httpx.get(server.address, headers={"Host": "evil.example"})
        assert answer.status_code == 400
        told = [one for one in self.lines(server) if "evil.example" in str(one["message"])]
        assert [one["logger"] for one in told] == ["django.security.DisallowedHost"] and "error" not in told[0]

    def test_no_invitation_is_in_them(self, server: Server) -> None:
        address = server.address + "/invitation/1/abc123-secret/"
        assert httpx.get(address).status_code == 410
        assert httpx.post(address).status_code == 403, "no token: Django logs that itself"
        assert "abc123-secret" not in server.output.read_text() and "/invitation/1/..." in server.output.read_text()

    def test_no_key_is_in_them_wherever_it_was_put(self, server: Server) -> None:
        key = keyformat.new_secret()
        with httpx.Client(base_url=server.address) as http:
            http.get(f"/{key}/", params={"key": key}, headers={"User-Agent": key, "Referer": f"http://x/{key}"})
            page = http.get("/login/")
            for name in (key, f"x {key} y"):
                data = fields(page.text) | {"username": name, "password": key}
                assert http.post("/login/", data=data).status_code == 422
            http.post("/login/", data={"username": key})
            http.get("/login/", headers={"Host": key})
        httpx.get(f"http://127.0.0.1:{server.gate_port}/verify/{key}", headers={"Authorization": f"Bearer {key}"})
        written = server.output.read_text() + server.errors.read_text()
        assert key[3:20] not in written and "sk-..." in written
