"""DATABASE_URL: a file of SQLite, or a PostgreSQL that nobody can stand before."""

import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import unquote

from console.parsers import ESCAPES, ROOT

VERIFY = (
    "The connection to a database on another machine must be verified. Add "
    "?sslmode=verify-full&sslrootcert=/path/to/ca.crt, the certificate of the authority that signed the server's."
)


@dataclass(frozen=True)
class Database:
    """A SQLite file, or libpq's parameters by name."""

    sqlite_file: Path | None = None
    postgres: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def conninfo(self) -> str:
        """As libpq takes it; empty with SQLite."""
        if self.sqlite_file:
            return ""
        from psycopg.conninfo import make_conninfo

        return make_conninfo("", **self.postgres)


def parse(text: str) -> Database:
    scheme, separator, rest = text.partition(":///")
    if scheme == "sqlite" and separator and rest and "?" not in rest and not rest.endswith(("/", ":memory:")):
        return Database(sqlite_file=ROOT / unquote(rest))
    if not text.startswith(("postgres://", "postgresql://")):
        raise ValueError("Set postgres://user:password@host:port/name, or sqlite:////path/to/file.")
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    remedy = f"Set postgres://user:password@host:port/name. {ESCAPES}"
    try:
        found = {name: str(value) for name, value in conninfo_to_dict(text).items()}
    except psycopg.Error:  # its text may have parts of the password
        raise ValueError(remedy) from None
    name, host = found.get("dbname", ""), found.get("host", "")
    if name.startswith("/") and not host:  # postgres:////folder/of/the/socket/name
        found["host"], _, found["dbname"] = name.rpartition("/")
    ports = [port for port in found.get("port", "").split(",") if port]
    if not (name or "service" in found) or "@" in name + host or not all(map(is_port, ports)):
        raise ValueError(remedy)
    if not verified(found):
        raise ValueError(VERIFY)
    return Database(postgres=found)


def verified(found: dict[str, str]) -> bool:
    """Whether nobody in between can read or change anything: on a socket or a loopback address, or because libpq
    verifies the server's certificate."""
    from psycopg.pq import Conninfo

    if "service" in found:  # it may name any host, and any sslmode that the URL does not
        return found.get("sslmode") == "verify-full"
    # What the URL leaves out, libpq takes from its own variables.
    known = {one.keyword.decode(): one.val.decode() for one in Conninfo.get_defaults() if one.val} | found
    hosts = [host for name in ("host", "hostaddr") if name in known for host in known[name].split(",")]
    return known["sslmode"] == "verify-full" or all(
        host == "localhost" or host[:1] in ("", "/", "@") or is_loopback(host) for host in hosts
    )


def is_loopback(text: str) -> bool:
    try:
        return ip_address(text).is_loopback
    except ValueError:
        return False


def is_port(text: str) -> bool:
    return bool(re.fullmatch(r"[0-9]{1,5}", text, re.ASCII)) and 0 < int(text) < 2**16
