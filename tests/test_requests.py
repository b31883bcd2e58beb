"""What reaches the server before any form: content types, charsets, hosts and sizes."""

import httpx
import pytest

from tests.support import html
from tests.support.person import Person, fields
from tests.support.servers import Server

pytestmark = pytest.mark.once
CHARSETS = ["rot13", "base64", "hex", "zlib", "idna", "punycode", "undefined", "unicode_escape", "utf-16", "nonsense"]
TYPES = [*(f"text/plain; charset={name}" for name in CHARSETS), "text/plain; x*=bogus''%ff", "é", "multipart/form-data"]


@pytest.mark.parametrize("kind", TYPES)
def test_no_content_type_breaks_an_address(server: Server, kind: str) -> None:
    response = httpx.get(f"{server.address}/login/?next=/%ff", headers={b"Content-Type": kind.encode()})
    assert response.status_code == 200
    response = httpx.post(f"{server.address}/login/", headers={b"Content-Type": kind.encode()}, content=b"\\ud800=%ff")
    assert response.status_code in {400, 403}


@pytest.mark.parametrize("charset", CHARSETS)
def test_no_charset_breaks_a_form(server: Server, charset: str) -> None:
    with Person(server.address) as somebody:
        token = fields(somebody.http.get("/login/").text)["csrfmiddlewaretoken"]
        body = f"csrfmiddlewaretoken={token}&username=\\ud800{charset}&password=x"
        kind = {"Content-Type": f"application/x-www-form-urlencoded; charset={charset}"}
        assert somebody.http.post("/login/", content=body, headers=kind).status_code == 422


def test_a_request_that_cannot_be_read_is_answered_in_the_consoles_clothes(server: Server) -> None:
    for response in (
        httpx.get(server.address, headers={"Host": "evil.example"}),
        Person(server.address).send("/login/", **{str(n): "" for n in range(1001)}),
    ):
        assert response.status_code == 400
        assert "could not read your request" in html.text(response.text, "main")
        assert html.select(response.text, "link[rel=stylesheet]")
