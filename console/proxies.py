"""The caller's IP address: one rule for the console and the gate. Standard library only."""

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_interface, ip_network
from typing import Self

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

UNIX = "unix"  # every caller on a Unix socket
MAPPED = IPv6Network("::ffff:0:0/96")  # RFC 4291, 2.5.5.2: how an IPv6 socket shows an IPv4 caller
SUBSCRIBER, SITE = 64, 48  # prefix lengths of the smallest and the largest IPv6 network of a site (RFC 6177)
LONGEST = 128  # characters, more than any form of an address has: keeps the cache small
PORT = re.compile(r":[0-9]+$")


@dataclass(frozen=True)
class TrustedProxies:
    """The connections whose X-Forwarded-For is believed."""

    networks: tuple[Network, ...] = ()
    unix: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """From addresses, networks and the word `unix`, separated by commas. Raises ValueError with what to set."""
        items = {item.strip() for item in text.split(",")} - {""}
        return cls(tuple(parse_network(item) for item in sorted(items - {UNIX})), UNIX in items)

    @lru_cache(maxsize=1024)  # noqa: B019  (an installation has one)
    def trusts(self, peer: str) -> bool:
        address = address_of(peer)
        if address is None:
            return self.unix and peer in ("", UNIX)
        return any(address in network for network in self.networks)

    def as_seen(self) -> list[str]:
        """The networks as text, IPv4 also as an IPv6 socket shows it: for programs that do not fold."""
        mapped = (
            f"::ffff:{network.network_address}/{MAPPED.prefixlen + network.prefixlen}"
            for network in self.networks
            if network.version == 4
        )
        return [*map(str, self.networks), *mapped]


def parse_network(item: str) -> Network:
    try:
        network = ip_network(item)
    except ValueError:
        raise ValueError(remedy(item)) from None
    if isinstance(network, IPv6Network) and network.subnet_of(MAPPED):
        return IPv4Network((int(network.network_address) & 0xFFFF_FFFF, network.prefixlen - MAPPED.prefixlen))
    return network


def remedy(item: str) -> str:
    try:
        meant = ip_interface(item)
    except ValueError:
        wanted = f"Set IP addresses, networks such as 10.0.0.0/8, or {UNIX}, separated by commas."
        return f"{item!r} is not an IP address or network. {wanted}"
    return f"{item!r} has host bits set. Set {meant.network} for the whole network, or {meant.ip} for one address."


def address_of(text: str) -> Address | None:
    """The address without its zone, a mapped IPv4 address as IPv4; None where `text` is not an address."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


@lru_cache(maxsize=4096)  # the gate asks at every call
def canonical(text: str) -> str:
    """An address in its canonical form, whatever form a proxy gave it; "" where it is not an address.

    X-Forwarded-For has no standard: some proxies add the port, or write IPv6 as RFC 7239 does, in brackets and quotes.
    """
    text = text.strip().strip('"')
    if text.startswith("[") or text.count(":") == 1:  # without brackets, an IPv6 address has no port
        text = PORT.sub("", text).removeprefix("[").removesuffix("]")
    return str(address_of(text) or "")


def caller_address(peer: str, forwarded_for: str, trusted: TrustedProxies) -> str:
    """The caller's IP address in canonical form; "" for a Unix socket whose proxy names none.

    `peer` is the connection's address, "" or "unix" for a Unix socket. `forwarded_for` is X-Forwarded-For, several of
    them joined by commas: a trusted proxy wrote its last element, and all before that may be forged.
    """
    claimed = forwarded_for.rpartition(",")[2] if trusted.trusts(peer) else ""
    return (canonical(claimed) if len(claimed) <= LONGEST else "") or canonical(peer)


def network_of(address: str, prefix: int = SUBSCRIBER) -> str:
    """What one subscriber has: an IPv4 address, or the /64 of an IPv6 address (RFC 6177), whose privacy addresses
    (RFC 8981) change by the day. An address in canonical form; "" stays so."""
    return str(ip_network(f"{address}/{prefix}", strict=False)) if ":" in address else address
