"""Parsers for the values of environment variables. Each raises a ValueError that says what to set and never repeats the
value: it may be a secret."""

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, unquote, urlsplit
from zoneinfo import ZoneInfo

from console.vault import parse_keys

T = TypeVar("T")
ROOT = Path(__file__).resolve().parent.parent
MIN_SECRET_KEY = 32  # characters; `make run` makes 64
HOSTNAME = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*", re.ASCII)
DEFAULT_PORTS = {"http": 80, "https": 443}
ESCAPES = "In the user name and password, write / as %2F, ? as %3F, # as %23, @ as %40, : as %3A."
VERIFY = (
    "The connection to a database on another machine must be verified. Add "
    "?sslmode=verify-full&sslrootcert=/path/to/ca.crt, the certificate of the authority that signed the server's."
)
MAIL_PORTS = {"smtp": 25, "smtp+tls": 587, "smtp+ssl": 465}
MAIL_ALIASES = {"smtps": "smtp+tls"}
MAIL_WITHOUT_SERVER = {"consolemail", "dummymail", "filemail", "memorymail"}


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


@dataclass(frozen=True)
class Mail:
    """Where mail goes, and how: a key of MAIL_PORTS with a server, or one of MAIL_WITHOUT_SERVER."""

    scheme: str = "dummymail"
    host: str = ""
    port: int = 0
    user: str = ""
    password: str = field(default="", repr=False)
    folder: str = ""


def integer(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if re.fullmatch(r"-?[0-9]{1,18}", text, re.ASCII) and least <= int(text) <= most:
            return int(text)
        raise ValueError(f"Set a whole number from {least} to {most}.")

    return parse


def seconds(least: float, most: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if least <= number <= most:
            return number
        raise ValueError(f"Set a number of seconds from {least:g} to {most:g}.")

    return parse


def folder(text: str) -> Path:
    """Relative to the project, not to the current folder."""
    path = (ROOT / text).resolve()
    place = next(place for place in (path, *path.parents) if os.path.lexists(place))
    if not place.is_dir():
        raise ValueError(f"{place} is not a folder. Set an existing folder, or the path of a new one.")
    return path


def optional(parse: Callable[[str], T]) -> Callable[[str], T | None]:
    return lambda text: parse(text) if text else None


def file(text: str) -> Path:
    """Relative to the project, not to the current folder. Neither the file nor its folder has to exist."""
    path = (ROOT / text).resolve()
    if path.is_dir():
        raise ValueError(f"{path} is a folder. Set the path of a file.")
    folder(str(path.parent))
    return path


def secret_key(text: str) -> str:
    if len(text) < MIN_SECRET_KEY or len(set(text)) < 5 or not text.isprintable():
        raise ValueError(f"Set at least {MIN_SECRET_KEY} random characters.")
    return text


def secret_keys(text: str) -> list[str]:
    return [secret_key(one.strip()) for one in text.split(",")] if text else []


def versioned_keys(most: int) -> Callable[[str], str]:
    def parse(text: str) -> str:
        try:
            count = len(parse_keys("", text))
        except ValueError:
            message = "Set one or more `version:key` pairs separated by commas"
            raise ValueError(f"{message}, each version once, each key 32 bytes in base64url.") from None
        if count > most:
            raise ValueError(f"Set at most {most} keys: remove the newest.")
        return text

    return parse


def split(url: str, remedy: str) -> tuple[SplitResult, int | None]:
    """The URL's parts and its port."""
    try:
        parts = urlsplit(url)
        return parts, parts.port
    except ValueError:
        raise ValueError(remedy) from None


def site_url(text: str) -> str:
    """Scheme, host and port as browsers send them in Origin."""
    remedy = "Set the URL that people open, such as https://keys.example.org or http://127.0.0.1:8000, without a path."
    parts, port = split(text, remedy)
    host = (parts.hostname or "").removesuffix(".")
    extra = "@" in text or "?" in text or "#" in text or parts.path not in ("", "/")
    if extra or not is_host(host) or parts.scheme not in DEFAULT_PORTS or port == 0:
        raise ValueError(remedy)
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + ("" if port in (None, DEFAULT_PORTS[parts.scheme]) else f":{port}")


def is_host(text: str) -> bool:
    """Whether it is a host name, or an IPv6 address without a zone; not a pattern."""
    try:
        return "%" not in text and bool(IPv6Address(text))
    except ValueError:
        return bool(HOSTNAME.fullmatch(text))


def database(text: str) -> Database:
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


def mail(text: str) -> Mail:
    remedy = f"Set smtp+tls://user:password@host:587; smtp+ssl:// and smtp:// work too. {ESCAPES}"
    parts, port = split(text, remedy)
    scheme = MAIL_ALIASES.get(parts.scheme, parts.scheme)
    if scheme in MAIL_WITHOUT_SERVER:
        return Mail(scheme, folder=unquote(parts.path[1:]))
    if (
        scheme not in MAIL_PORTS
        or not parts.hostname
        or port == 0
        or parts.path.strip("/")
        or parts.query
        or "#" in text
    ):
        raise ValueError(remedy)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return Mail(scheme, parts.hostname, port or MAIL_PORTS[scheme], user, password)


def sender(text: str) -> str:
    if not re.fullmatch(r"([^<>\n]*<)?[^\s<>@]+@[^\s<>@]+>?", text):
        raise ValueError("Set the email of the sender, such as console@example.org.")
    return text


def public_keys_file(text: str) -> Path | None:
    """The file of the keys that verify signatures (console.signatures), relative to the project. It is read again for
    each signature."""
    if not text:
        return None
    from console.signatures import public_keys

    path = ROOT / text
    remedy = "Set the path of a file with the response of https://api.github.com/meta/public_keys/secret_scanning."
    try:
        if not public_keys(path.read_text()):
            raise ValueError
    except OSError as error:
        raise ValueError(f"The file cannot be read ({error.strerror}). {remedy}") from None
    except ValueError:
        raise ValueError(f"The file has no ECDSA public keys on P-256. {remedy}") from None
    return path


def appended_file(text: str) -> Path | None:
    """Relative to the project. The program that appends to it makes it."""
    path = ROOT / text if text else None
    if path and (path.is_dir() or not path.parent.is_dir()):
        raise ValueError("Set a file in a folder that exists.")
    return path


def time_zone(text: str) -> str:
    try:
        return ZoneInfo(text).key
    except (OSError, ValueError, KeyError):
        raise ValueError("Set the name of a time zone, such as UTC or Europe/Berlin.") from None
