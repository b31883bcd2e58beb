"""Clients who try passwords without end, and people who have something to do."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

import httpx
import pytest
from django.test import Client

from console.pages import logon
from console.unavailable import Bottleneck
from tests.support import html
from tests.support.actions import NEW_PASSWORD
from tests.support.hammer import hammering
from tests.support.nginx import Gateway
from tests.support.person import NAME, PASSWORD, Person, code, fields, wait_for
from tests.support.servers import Server, free_port, running
from tests.support.world import Enrolled

pytestmark = [pytest.mark.once, pytest.mark.no_mutants]
CLIENTS = 200


@contextmanager
def guessing_codes(address: str) -> Iterator[Counter[int]]:
    """Somebody who knows the password tries codes, each again as soon as it is answered. How many answers there were of
    each status."""
    answers: Counter[int] = Counter()
    stop, elsewhere = Event(), httpx.HTTPTransport(local_address="127.0.0.9")
    with httpx.Client(base_url=address, headers={"Origin": address}, transport=elsewhere, timeout=60) as http:

        def send(path: str, **data: str) -> int:
            return http.post(path, data=fields(http.get(path).text) | data).status_code

        def guess() -> None:
            while not stop.is_set():
                answers[send("/login/verify/", otp_token="000000")] += 1

        assert send("/login/", username=NAME, password=PASSWORD) == 302
        thread = Thread(target=guess)
        thread.start()
        try:
            wait_for(lambda: answers[429] > 3)
            yield answers
        finally:
            stop.set()
            thread.join()


def test_who_knows_the_password_keeps_no_verified_owner_from_anything(fresh_server: Server) -> None:
    address = fresh_server.address
    with Person(address) as owner:
        key_id, _ = owner.log_on().create()
        with guessing_codes(address) as answers:
            right = code(owner.totp_secret, ahead=1)
            assert "api-key-value" in owner.send(f"/api-keys/{key_id}/view/", otp_token=right).text
            assert owner.delete(key_id).status_code == 200 and owner.key_ids() == []
            (thief,) = html.select(owner.http.get("/security/sessions/").text, "input[name=session]")
            data = {"session": str(thief["value"]), "otp_token": owner.recovery_codes.pop()}
            assert "The selected sessions have ended." in owner.send("/security/sessions/", **data).text
            wait_for(lambda: answers[403] + answers[302])
        with guessing_codes(address) as answers:
            data = {"password": PASSWORD, "new_password": NEW_PASSWORD, "otp_token": owner.recovery_codes.pop()}
            assert "Your password has been changed." in owner.send("/security/password/", **data).text
            wait_for(lambda: answers[403] + answers[302])


def test_an_owner_deletes_a_key_beside_them(server: Server) -> None:
    with Person(server.address) as owner:
        key_id, _ = owner.log_on().create()
        with hammering(server.address, CLIENTS) as answers:
            assert owner.delete(key_id).status_code == 200
        assert owner.key_ids() == []
    assert answers["503"] and answers["422"]


@pytest.mark.gateway
def test_an_owner_deletes_a_key_beside_them_behind_nginx(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder, port = tmp_path_factory.mktemp("overload"), free_port()
    url = f"https://127.0.0.1:{port}"
    with running(folder / "data", CONSOLE_URL=url, TRUSTED_PROXIES="127.0.0.1") as server:
        gateway = Gateway(folder / "nginx", console=server.port, console_at=port)
        with gateway.serving(), Person(url, gateway.certificate) as owner:
            key_id, _ = owner.log_on().create()
            with hammering(url, CLIENTS) as answers:
                assert owner.delete(key_id).status_code == 200
            assert owner.key_ids() == []
    assert answers["429"]


def test_somebody_at_another_address_logs_on_beside_them(server: Server) -> None:
    elsewhere = httpx.HTTPTransport(local_address="127.0.0.5")
    with httpx.Client(base_url=server.address, transport=elsewhere, timeout=60) as http:
        form = fields(http.get("/login/").text) | {"username": NAME, "password": PASSWORD}
        with hammering(server.address, CLIENTS):
            wait_for(lambda: http.post("/login/", data=form).status_code == 302)


def test_who_waits_is_not_kept_for_long_and_is_told(owner: Enrolled, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Bottleneck(at_once=1, waiting=1, each=2, seconds=0.01)
    monkeypatch.setattr(logon, "LOG_ONS", slow)
    data = {"username": owner.username, "password": PASSWORD}
    with slow.passed("somebody"):
        refused = Client().post("/login/", data)
        assert refused.status_code == 503 and int(refused.headers["Retry-After"]) > 0
        said = html.text(refused.content, "main")
        assert "Too many people are logging on" in said and "Nothing was changed" in said
    assert Client().post("/login/", data).status_code == 302
