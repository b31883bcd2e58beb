"""What strangers get from nginx itself, before the console, and what many guesses at once get from both."""

import socket
import ssl
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.attacks.conftest import Site
from tests.support.person import PASSWORD, fields

pytestmark = pytest.mark.gateway


def test_nginxs_own_answers_have_the_headers_too(site: Site) -> None:
    with site.person() as stranger:
        answers = [
            stranger.http.post("/login/", content=b"x" * (2 << 20)),
            stranger.http.get("/login/", params={"x": "x" * 9000}),
        ]
        page = stranger.http.get("/login/")
    assert [answer.status_code for answer in answers] == [413, 414]
    for answer in (*answers, page):
        assert answer.headers.get_list("strict-transport-security") == ["max-age=31536000; includeSubDomains"]
        assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
        (policy,) = answer.headers.get_list("content-security-policy")
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        (cache,) = answer.headers.get_list("cache-control")
        assert "no-store" in cache


def test_of_many_guesses_at_once_no_more_are_looked_at_than_one_after_the_other(fresh_site: Site) -> None:
    with fresh_site.person() as guesser:
        form = fields(guesser.http.get("/login/").text) | {"username": "root"}

        def guess(n: int) -> httpx.Response:
            return guesser.http.post("/login/", data=form | {"password": f"guess {n}"})

        with ThreadPoolExecutor(32) as threads:
            statuses = [answer.status_code for answer in threads.map(guess, range(64))]
        # Of one caller the console checks two passwords at once; the others it turns away without a look (503).
        assert set(statuses) <= {422, 429, 503} and statuses.count(422) <= 9
        while (status := guess(64).status_code) == 422:
            statuses.append(status)
        assert status == 429 and statuses.count(422) == 9
        assert guesser.http.post("/login/", data=form | {"password": PASSWORD}).status_code == 429


def agrees(site: Site, version: ssl.TLSVersion, ciphers: str = "DEFAULT") -> ssl.SSLSession | None:
    """The session with a client that speaks no newer version and no other ciphers; None where nginx does not."""
    context = ssl.create_default_context(cafile=site.certificate)
    context.minimum_version, context.maximum_version = min(version, context.minimum_version), version
    context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    with socket.create_connection(("127.0.0.1", int(site.address.rpartition(":")[2])), timeout=20) as raw:
        try:
            with context.wrap_socket(raw, server_hostname="127.0.0.1") as client:
                return client.session
        except (ssl.SSLError, ConnectionError):
            return None


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_what_is_recorded_cannot_be_read_later(site: Site) -> None:
    """Not with the certificate's key, nor with the one that nginx would have for tickets."""
    newest = agrees(site, ssl.TLSVersion.TLSv1_3)
    older = agrees(site, ssl.TLSVersion.TLSv1_2)
    assert newest and older and not older.has_ticket
    assert not agrees(site, ssl.TLSVersion.TLSv1_1)
    for ciphers in ("kRSA", "kDHE", "SHA1", "SHA256", "SHA384"):  # no forward secrecy, or CBC
        assert not agrees(site, ssl.TLSVersion.TLSv1_2, ciphers)
