"""Who calls, behind proxies: the same rule at console and gate."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_address
from pathlib import Path

import httpx
import pytest
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import Settings

from apikeys.models import ApiKey
from console.proxies import Address, TrustedProxies, caller_address, network_of
from tests.support.gates import TOKEN, Gate, new_key
from tests.support.person import PASSWORD, wait_for
from tests.support.servers import ROOT, Server
from tests.support.world import Enrolled

PROXY, OTHER = "192.0.2.1", "192.0.2.2"
ADDRESSES = st.ip_addresses().map(lambda ip: getattr(ip, "ipv4_mapped", None) or ip)


@pytest.mark.parametrize(
    ("forwarded_for", "address"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("203.0.113.9:4711", "203.0.113.9"),
        ("[203.0.113.9]:4711", "203.0.113.9"),
        ('"203.0.113.9:4711"', "203.0.113.9"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ('"[2001:db8::1]"', "2001:db8::1"),
        ('"[2001:db8::1]:4711"', "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%25eth0]:4711", "fe80::1"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("[::ffff:203.0.113.9]:4711", "203.0.113.9"),
        ("198.51.100.1, 203.0.113.9", "203.0.113.9"),
        ("198.51.100.1,203.0.113.9 ", "203.0.113.9"),
        ("203.0.113.9, unknown", PROXY),  # nobody vouches for what is before it
        ("203.0.113.9,", PROXY),
        ("", PROXY),
        ("_hidden", PROXY),
        ("for=203.0.113.9", PROXY),
        ("203.0.113.9:4711:1", PROXY),
        ("203.0.113.999", PROXY),
        ("[]", PROXY),
        ("[]:1", PROXY),
        ('"', PROXY),
        ("1" * 20_000, PROXY),
        ("２０３.0.113.9", PROXY),
    ],
)
def test_a_trusted_proxy_names_the_caller(forwarded_for: str, address: str) -> None:
    assert caller_address(PROXY, forwarded_for, TrustedProxies.parse(PROXY)) == address
    assert caller_address("::ffff:" + PROXY, forwarded_for, TrustedProxies.parse(PROXY)) == address
    assert caller_address(OTHER, forwarded_for, TrustedProxies.parse(PROXY)) == OTHER


@pytest.mark.parametrize(
    ("trusted", "peer", "believed"),
    [
        ("10.0.0.0/8", "10.255.0.1", True),
        ("10.0.0.0/8", "::ffff:10.255.0.1", True),
        ("10.0.0.0/8", "11.0.0.1", False),
        ("fd00::/8", "fd12::1", True),
        ("fd00::/8", "fe80::1", False),
        ("::ffff:10.0.0.0/104", "10.255.0.1", True),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("fe80::1", "fe80::1%eth0", True),
        (" 127.0.0.1 ,, fd00::/8,", "127.0.0.1", True),
        ("unix", "", True),
        ("unix", "unix", True),
        ("unix", "nonsense", False),
        ("127.0.0.1", "", False),
        ("", "127.0.0.1", False),
        ("", "", False),
    ],
)
def test_whose_word_is_taken(trusted: str, peer: str, believed: bool) -> None:
    assert (caller_address(peer, "203.0.113.9", TrustedProxies.parse(trusted)) == "203.0.113.9") is believed


@pytest.mark.parametrize(
    ("address", "prefix", "network"),
    [
        ("203.0.113.9", 64, "203.0.113.9"),
        ("203.0.113.9", 48, "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", 64, "2001:db8:1:2::/64"),
        ("2001:db8:1:2:3:4:5:6", 48, "2001:db8:1::/48"),
        ("", 64, ""),
    ],
)
def test_a_network_is_what_one_subscriber_has(address: str, prefix: int, network: str) -> None:
    assert network_of(address, prefix) == network


def test_a_unix_socket_has_no_address_of_its_own() -> None:
    for forwarded_for in ("", "unknown", "198.51.100.1, "):
        assert caller_address("", forwarded_for, TrustedProxies.parse("unix")) == ""


@given(ADDRESSES, ADDRESSES, st.text(), st.sampled_from(["{}", "{}:80", "[{}]", "[{}]:80", '"[{}]:80"', "{}%25eth0"]))
def test_the_last_element_counts_whatever_is_before_it(peer: Address, caller: Address, before: str, form: str) -> None:
    form = "{}" if isinstance(caller, IPv6Address) and form == "{}:80" else form
    trusted = TrustedProxies.parse(str(peer))
    assert ip_address(caller_address(str(peer), f"{before},{form.format(caller)}", trusted)) == caller
    assert caller_address(str(peer), before, TrustedProxies()) == str(peer)


@given(st.text(), st.text(), st.booleans())
def test_nothing_that_a_proxy_writes_is_an_error(peer: str, forwarded_for: str, unix: bool) -> None:
    address = caller_address(peer, forwarded_for, TrustedProxies(unix=unix))
    assert not address or str(ip_address(address)) == address


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "proxy.example.org",
            "'proxy.example.org' is not an IP address or network. Set IP addresses, networks such as 10.0.0.0/8",
        ),
        ("127.0.0.1, 10.0.0.0/33", "'10.0.0.0/33' is not an IP address or network. Set"),
        ("127.0.0.1;10.0.0.1", "'127.0.0.1;10.0.0.1' is not an IP address or network. Set"),
        ("127.0.0.1:80", "'127.0.0.1:80' is not an IP address or network. Set"),
        ("*", "'*' is not an IP address or network. Set"),
        (
            "10.1.2.3/8",
            "'10.1.2.3/8' has host bits set. Set 10.0.0.0/8 for the whole network, or 10.1.2.3 for one address.",
        ),
        ("fd00::1/8", "'fd00::1/8' has host bits set. Set fd00::/8 for the whole network, or fd00::1 for one address."),
    ],
)
def test_nonsense_is_refused_with_what_to_set(text: str, message: str) -> None:
    with pytest.raises(ValueError) as refused:
        TrustedProxies.parse(text)
    assert str(refused.value).startswith(message)


@pytest.mark.django_db
def test_many_callers_behind_a_proxy_are_not_one(owner: Enrolled, settings: Settings) -> None:
    settings.TRUSTED_PROXIES = TrustedProxies.parse("10.0.0.0/8")
    data = {"username": owner.username, "password": "wrong"}
    for caller in range(12):
        stranger = Client(REMOTE_ADDR="10.0.0.7", headers={"X-Forwarded-For": f"203.0.113.{caller}:4711"})
        assert stranger.post("/login/", data).status_code == 422
    mine = Client(REMOTE_ADDR="::ffff:10.0.0.8", headers={"X-Forwarded-For": '"[2001:db8::1]:4711"'})
    assert mine.post("/login/", data | {"password": PASSWORD}).status_code == 302


@pytest.mark.django_db(transaction=True)
def test_the_gate_folds_the_addresses_of_an_ipv6_socket(tmp_path: Path) -> None:
    key, secret = new_key()
    with Gate(tmp_path, host="[::]", TRUSTED_PROXIES="127.0.0.0/8") as gate:
        forwarded = [b"X-Forwarded-For: 198.51.100.1", b'X-Forwarded-For: 198.51.100.2, "[2001:db8::1]:4711"']
        assert gate.ask(TOKEN + secret.encode(), *forwarded)[0] == 200
        wait_for(lambda: ApiKey.objects.get(pk=key.pk).last_call, 10)
    assert key.usage.get().last_call_from == "2001:db8::1"


def answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/healthz").status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def console_on_ipv6(folder: Path, trusted: str) -> Iterator[str]:
    server = Server(folder, CONSOLE_URL="https://keys.example.org", TRUSTED_PROXIES=trusted)
    command = [sys.executable, "-m", "gunicorn", "-c", "python:console.gunicorn_conf", "-b", f"[::]:{server.port}"]
    keys = {name: os.environ[name] for name in ("SECRET_KEY", "VAULT_KEYS", "DIGEST_KEYS")}
    process = subprocess.Popen([*command, "console.wsgi"], cwd=ROOT, env=server.environment | keys)
    try:
        wait_for(lambda: answers(server.address))
        yield server.address
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.parametrize(("trusted", "status"), [("127.0.0.0/8", 302), ("fd00::/8", 301)])
def test_the_console_believes_a_proxy_that_it_sees_over_ipv6(tmp_path: Path, trusted: str, status: int) -> None:
    """Over TLS the way is to the keys; without, to TLS."""
    with console_on_ipv6(tmp_path, trusted) as address:
        headers = {"Host": "keys.example.org", "X-Forwarded-Proto": "https"}
        assert httpx.get(f"{address}/", headers=headers).status_code == status
