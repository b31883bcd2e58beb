"""What strangers get from nginx itself, before the console, and what many guesses at once get from both."""

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
