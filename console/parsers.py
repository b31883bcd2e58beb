"""Parsers for the values of environment variables. Each raises a ValueError that says what to set and never repeats the
value: it may be a secret."""

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv6Address
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
MAIL_PORTS = {"smtp": 25, "smtp+tls": 587, "smtp+ssl": 465}
MAIL_ALIASES = {"smtps": "smtp+tls"}
MAIL_WITHOUT_SERVER = {"consolemail", "dummymail", "filemail", "memorymail"}


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
