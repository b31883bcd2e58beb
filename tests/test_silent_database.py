"""The console and the background programs while PostgreSQL stands still, or a proxy keeps connections and passes
nothing on."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.support import html
from tests.support.nginx import connections, listens
from tests.support.person import Person, fields, wait_for
from tests.support.postgres import postgres, postgres_folder
from tests.support.servers import ROOT, Server, free_port, running
from tests.support.silence import Proxy, stopped
from tests.support.world import only_postgres

pytestmark = [only_postgres, pytest.mark.no_mutants]
WAITING = 18  # more than the console has threads
SECONDS = 10  # more than any of them may take, on a machine that has much else to do
Silent = Callable[[], AbstractContextManager[None]]


@dataclass
class Site:
    server: Server
    owner: Person
    secret: str
    database: str  # its URL, past the proxy
    silences: dict[str, Silent]

    @contextlib.contextmanager
    def program(self, output: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """Another of the four programs."""
        environment = self.server.environment | {"METERING_SECONDS": "0.01"}
        with output.open("wb") as out:
            process = subprocess.Popen([sys.executable, *words], cwd=ROOT, env=environment, stdout=out, stderr=out)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def counted(self) -> int:
        with psycopg.connect(self.database) as connection:
            row = connection.execute("SELECT coalesce(sum(accepted), 0)::int FROM apikeys_usage").fetchone()
        assert row
        return int(row[0])

    def call(self) -> int:
        headers = {"dashvector-auth-token": self.secret}
        return httpx.get(f"http://127.0.0.1:{self.server.gate_port}/verify", headers=headers).status_code


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The product, with an owner who is logged on, on a PostgreSQL of its own that is reached through a proxy."""
    programs = postgres_folder()
    assert programs
    folder = tmp_path_factory.mktemp("silent") / "data"
    with (
        postgres(programs) as address,
        Proxy(address) as proxy,
        running(folder, DATABASE_URL=proxy.address) as server,
        Person(server.address) as owner,
    ):
        _, secret = owner.log_on().create()
        owner.http.timeout = httpx.Timeout(SECONDS)
        yield Site(server, owner, secret, address, {"stopped": lambda: stopped(address), "swallowed": proxy.silent})


@pytest.fixture(params=["stopped", "swallowed"])
def silent(site: Site, request: pytest.FixtureRequest) -> Silent:
    return site.silences[request.param]


def lives(address: str) -> bool:
    return httpx.get(f"{address}/healthz", timeout=SECONDS).status_code == 200


def unavailable(answer: httpx.Response) -> str:
    """What the page says."""
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) > 0
    assert html.text(answer.text, "h1") == "Temporarily unavailable"
    return html.text(answer.text, "main")


def test_every_page_is_a_503_and_none_is_waited_for_long(site: Site, silent: Silent) -> None:
    owner = site.owner
    form = fields(owner.http.get("/api-keys/").text)
    with ThreadPoolExecutor(WAITING) as threads, silent():
        waiting = [threads.submit(owner.http.get, "/api-keys/") for _ in range(WAITING)]
        assert lives(site.server.address)
        assert not all(one.done() for one in waiting), "it was answered while they wait"
        for one in waiting:
            assert "Nothing was changed" in unavailable(one.result())
        assert "Nothing was changed" in unavailable(owner.http.post("/api-keys/create/", data=form))
        wait_for(lambda: owner.http.get("/readyz").status_code == 503, SECONDS)
        assert lives(site.server.address)
    wait_for(lambda: all(owner.http.get("/api-keys/").status_code == 200 for _ in range(WAITING)), SECONDS)
    assert owner.http.post("/api-keys/create/", data=form).status_code in (200, 409), "still logged on"
    assert "Traceback" not in site.server.output.read_text() + site.server.errors.read_text()


def test_a_change_that_ended_half_way_is_called_uncertain(site: Site) -> None:
    """The code is spent, and the key is locked by somebody who does not let go."""
    (key_id, *_) = site.owner.key_ids()
    with psycopg.connect(site.database) as other:
        other.execute("SELECT * FROM apikeys_apikey FOR UPDATE")
        page = unavailable(site.owner.delete(key_id))
    assert "may or may not have been completed" in page and "use a new code" in page
    assert key_id in site.owner.key_ids()


def test_the_background_programs_go_on(site: Site, silent: Silent) -> None:
    output = site.server.output
    before = output.read_text()
    with silent():
        for said in ("Counted calls cannot be added", "Email and expired sessions will be processed later"):
            # 30 s, where a statement was sent before and is not answered
            wait_for(lambda: output.read_text().count(said) > before.count(said), 60)  # noqa: B023
    counted = site.counted()
    wait_for(lambda: site.call() == 200)
    wait_for(lambda: site.counted() > counted)


@pytest.mark.parametrize(
    ("name", "said"),
    [("meter", "Counted calls cannot be added"), ("housekeep", "Email and expired sessions will be processed later")],
)
def test_a_background_program_stops(site: Site, silent: Silent, name: str, said: str, tmp_path: Path) -> None:
    output = tmp_path / name
    with site.program(output, "manage.py", name) as process, silent():
        wait_for(lambda: said in output.read_text())
        process.terminate()
        process.wait(SECONDS)


def test_a_background_program_stops_in_the_middle_of_its_work(site: Site, tmp_path: Path) -> None:
    output = tmp_path / "meter"
    with psycopg.connect(site.database) as other:
        other.execute("LOCK TABLE apikeys_foldedfile")
        with (
            site.program(output, "manage.py", "meter") as process,
            psycopg.connect(site.database, autocommit=True) as third,
        ):
            waits = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%foldedfile%'"
            wait_for(lambda: third.execute(waits).fetchone() is not None)
            process.terminate()
            assert process.wait(SECONDS) == -signal.SIGALRM


def test_the_console_stops_and_answers_who_waits(site: Site, silent: Silent, tmp_path: Path) -> None:
    port, cookies = free_port(), dict(site.owner.http.cookies)
    words = ["-m", "gunicorn", "-c", "python:console.gunicorn_conf", "-b", f"127.0.0.1:{port}", "console.wsgi"]

    def ask() -> int:
        return httpx.get(f"http://127.0.0.1:{port}/api-keys/", cookies=cookies, timeout=2 * SECONDS).status_code

    with site.program(tmp_path / "console", *words) as process:
        wait_for(lambda: listens(port))
        assert ask() == 200
        with ThreadPoolExecutor(WAITING) as threads, silent():
            waiting = [threads.submit(ask) for _ in range(WAITING)]
            wait_for(lambda: connections(port) >= WAITING)
            assert lives(f"http://127.0.0.1:{port}")
            process.terminate()
            process.wait(SECONDS)
            assert {one.result() for one in waiting} == {503}
