"""What strangers get from nginx itself, before the console, and what many guesses at once get from both."""

import contextlib
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from apikeys.keys import format as keyformat
from tests.attacks.conftest import Site
from tests.support.person import PASSWORD, fields, wait_for

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


def looked_at(answer: httpx.Response) -> bool:
    return answer.status_code == 422


def locked_out(answer: httpx.Response) -> bool:
    """By the console, not by nginx."""
    return answer.status_code == 429 and "Try again in 15 minutes." in answer.text


def test_of_many_guesses_at_once_no_more_are_looked_at_than_one_after_the_other(fresh_site: Site) -> None:
    with fresh_site.person() as guesser:
        form = fields(guesser.http.get("/login/").text) | {"username": "root"}

        def guess(n: int) -> httpx.Response:
            return guesser.http.post("/login/", data=form | {"password": f"guess {n}"})

        with ThreadPoolExecutor(16) as threads:
            answers = list(threads.map(guess, range(16)))
        # Of one caller the console checks two passwords at once; the others it turns away without a look (503).
        assert {answer.status_code for answer in answers} <= {422, 429, 503}
        while looked_at(last := guess(16)):
            answers.append(last)
        assert locked_out(last) and sum(map(looked_at, answers)) == 9
        refused = guesser.http.post("/login/", data=form | {"password": PASSWORD})
        assert locked_out(refused) and refused.headers.get_list("retry-after") == ["900"]


def test_of_many_guesses_from_one_network_few_get_behind_nginx(fresh_site: Site) -> None:
    with fresh_site.person("2001:db8::1") as guesser, fresh_site.person("2001:db8:0:1::1") as owner:
        form = fields(guesser.http.get("/login/").text)

        def guess(n: int) -> httpx.Response:
            words = {"username": f"name {n}", "password": f"guess {n}"}
            return guesser.http.post("/login/", data=form | words, headers={"X-Real-IP": f"2001:db8::{n:x}:1"})

        with ThreadPoolExecutor(16) as threads:
            answers = list(threads.map(guess, range(200)))
        assert sum(map(looked_at, answers)) < 20, "then the console itself looks at no more"
        turned_away = [answer for answer in answers if answer.status_code == 429 and not locked_out(answer)]
        logged = fresh_site.server.output.read_text().count('"method": "POST", "path": "/login/"')
        assert len(turned_away) > 100 and logged == 200 - len(turned_away)
        assert {answer.headers["retry-after"] for answer in turned_away} == {"60"}
        owner.log_on().create()
        (cookie,) = [each for each in owner.http.cookies.jar if each.name.endswith("device")]
        assert (cookie.name, cookie.path, cookie.secure) == ("__Host-device", "/", True)
        assert cookie.has_nonstandard_attr("HttpOnly") and cookie.get_nonstandard_attr("SameSite") == "Strict"


def test_of_leak_reports_from_many_networks_of_one_site_few_are_looked_at(site: Site) -> None:
    keys = [keyformat.new_secret() for _ in range(100)]
    with site.person() as stranger:

        def report(n: int) -> int:
            headers = {"X-Real-IP": f"2001:db8:0:{n:x}::1"}
            return stranger.http.post("/leaked-keys", json={"keys": keys}, headers=headers).status_code

        with ThreadPoolExecutor(16) as threads:
            statuses = list(threads.map(report, range(40)))
    assert sorted(statuses) == [202] * 30 + [429] * 10


def test_whoever_sends_slowly_holds_no_more_than_100_requests(site: Site) -> None:
    head = "POST /api-keys/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nX-Real-IP: 192.0.2.77\r\n\r\n"
    address = ("127.0.0.1", int(site.address.rpartition(":")[2]))
    tls = ssl.create_default_context(cafile=site.certificate)
    answers: dict[ssl.SSLSocket, bytes] = {}

    with contextlib.ExitStack() as held:

        def client() -> ssl.SSLSocket:
            connection = held.enter_context(socket.create_connection(address))
            made = held.enter_context(tls.wrap_socket(connection, server_hostname=address[0]))
            made.sendall(head.encode())
            made.setblocking(False)
            return made

        def answered() -> int:
            for one in clients:
                with contextlib.suppress(ssl.SSLWantReadError):
                    answers.setdefault(one, one.recv(12))
            return len(answers)

        clients = [client() for _ in range(130)]
        wait_for(lambda: answered() >= 30)
    assert [*answers.values()] == [b"HTTP/1.1 429"] * 30


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
