"""The environment variables of the product, each declared once, and read once into what the programs use.

Free of Django, for the gate. docs/operations.md explains each of them.
"""

import os
import re
import shlex
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from string import Template
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from console import parsers
from console.parsers import Database, Mail
from console.proxies import TrustedProxies
from console.vault import MAX_DIGEST_KEYS

T = TypeVar("T")
SECRETS_FILE = "secrets.env"  # in the data folder; `make run` makes it


class ConfigurationError(Exception):
    """The problems with the environment, one per line, each with what to set."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))


@dataclass(frozen=True)
class Variable:
    name: str
    parse: Callable[[str], Any]
    default: str | None  # as text, in which $NAME is another variable's value; None where it must be set
    shown: Callable[[str], str]  # its value, in an error


def plain(text: str) -> str:
    text = text if len(text) <= 100 else f"{text[:100]}…"
    return text if text == shlex.quote(text) else repr(text)


def hidden(text: str) -> str:
    return "…"


def url_without_password(text: str) -> str:
    """A URL that cannot be parsed may have its password anywhere."""
    scheme, separator, rest = text.partition("://")
    if re.fullmatch(r"[\w.-]*", text) or scheme in ("http", "https") and "@" not in rest:
        return plain(text)
    return f"{scheme}://…" if separator else "…"


def variable(name: str, parse: Callable[[str], T], default: str | None, shown: Callable[[str], str] = plain) -> T:
    declared: T = field(metadata={"variable": Variable(name, parse, default, shown)}, repr=shown is plain)
    return declared


@dataclass(frozen=True, kw_only=True)
class Environment:
    data_dir: Path = variable("CONSOLE_DATA_DIR", parsers.folder, "var/")
    port: int = variable("PORT", parsers.integer(1, 65535), "8000")
    gate_port: int = variable("GATE_PORT", parsers.integer(1, 65535), "8001")
    console_url: str = variable("CONSOLE_URL", parsers.site_url, "http://127.0.0.1:$PORT", url_without_password)
    console_workers: int = variable("CONSOLE_WORKERS", parsers.integer(1, 1000), "2")
    gate_workers: int = variable("GATE_WORKERS", parsers.integer(1, 1000), "2")
    gate_max_connections: int = variable("GATE_MAX_CONNECTIONS", parsers.integer(1, 1_000_000), "4096")
    trusted_proxies: TrustedProxies = variable("TRUSTED_PROXIES", TrustedProxies.parse, "")
    database: Database = variable(
        "DATABASE_URL", parsers.database, "sqlite:///$CONSOLE_DATA_DIR/console.sqlite3", url_without_password
    )
    mail: Mail = variable("EMAIL_URL", parsers.mail, "dummymail://", url_without_password)
    mail_from: str = variable("EMAIL_FROM", parsers.sender, "console@localhost")
    deleted_keys_file: Path = variable("DELETED_KEYS_FILE", parsers.file, "$CONSOLE_DATA_DIR/deleted-keys")
    leak_report_public_keys: Path | None = variable("LEAK_REPORT_PUBLIC_KEYS", parsers.public_keys_file, "")
    metering_seconds: float = variable("METERING_SECONDS", parsers.seconds(0.01, 3600), "5")
    time_zone: str = variable("TIME_ZONE", parsers.time_zone, "UTC")
    api_keys_max_active: int = variable("API_KEYS_MAX_ACTIVE", parsers.integer(0, 1_000_000), "3")
    api_keys_max_created_per_day: int = variable("API_KEYS_MAX_CREATED_PER_DAY", parsers.integer(0, 1_000_000), "10")
    root_password: str = variable("CONSOLE_ROOT_PASSWORD", str, "", hidden)
    secret_key: str = variable("SECRET_KEY", parsers.secret_key, None, hidden)
    vault_keys: str = variable("VAULT_KEYS", parsers.versioned_keys(2**16), None, hidden)
    digest_keys: str = variable("DIGEST_KEYS", parsers.versioned_keys(MAX_DIGEST_KEYS), None, hidden)

    @property
    def secrets_file(self) -> Path:
        return self.data_dir / SECRETS_FILE

    @property
    def metering_dir(self) -> Path:
        return self.data_dir / "metering"

    @property
    def https(self) -> bool:
        return self.console_url.startswith("https:")

    @property
    def host(self) -> str:
        """The name in the Host header of people's requests, an IPv6 address in brackets."""
        return re.sub(r":[0-9]+$", "", urlsplit(self.console_url).netloc)

    @property
    def sqlite_file(self) -> Path | None:
        return self.database.sqlite_file

    @property
    def postgres_conninfo(self) -> str:
        """As libpq takes it; empty with SQLite."""
        if self.sqlite_file:
            return ""
        from psycopg.conninfo import make_conninfo

        return make_conninfo("", **self.database.postgres)


VARIABLES: dict[str, Variable] = {each.name: each.metadata["variable"] for each in fields(Environment)}
NAMES = {each.name for each in VARIABLES.values()}
LINE = re.compile(r"\s*((export )?(?P<name>\w+)=(?P<quote>[\"']?)(?P<value>.*)(?P=quote)|#.*)?\s*")  # of secrets.env


def read(environ: Mapping[str, str] = os.environ, new_secrets: Mapping[str, str] | None = None) -> Environment:
    """The environment, completed by secrets.env and by the defaults; an empty variable counts as unset.

    `new_secrets` are for a first start: they stand in for secrets.env where there is none, and the data folder must be
    writable. Raises ConfigurationError with every problem.
    """
    reading = Reading({name: environ[name] for name in NAMES if environ.get(name)})
    first, *others = VARIABLES
    reading.parse(first)
    if data_dir := reading.values.get(first):
        reading.add_secrets(data_dir / SECRETS_FILE, new_secrets or {})
        if new_secrets is not None:
            reading.check_writable(data_dir)
    for attribute in others:
        reading.parse(attribute)
    port = reading.values.get("port")
    if port is not None and port == reading.values.get("gate_port"):
        reading.problems.append(f"GATE_PORT={port}: PORT has the same value. Set two different ports.")
    if reading.problems:
        raise ConfigurationError(reading.problems)
    return Environment(**reading.values)


def read_or_exit() -> Environment:
    """For programs without Django."""
    try:
        return read()
    except ConfigurationError as error:
        raise SystemExit(str(error)) from None


class Reading:
    """What has been read so far, and the problems with it."""

    def __init__(self, given: dict[str, str]) -> None:
        self.given = given
        self.values: dict[str, Any] = {}  # by attribute
        self.texts: dict[str, str] = {}  # the same by name, for defaults that refer to them
        self.problems: list[str] = []
        self.set_secrets = ""  # how to; empty while the data folder or the file is itself a problem

    def parse(self, attribute: str) -> None:
        declared = VARIABLES[attribute]
        name = declared.name
        if declared.default is None and name not in self.given:
            if self.set_secrets:
                self.problems.append(f"{name}: Not set. {self.set_secrets}")
            return
        default = declared.default or ""
        texts = {other: quote(text) for other, text in self.texts.items()} if "://" in default else self.texts
        try:
            text = self.given.get(name) or Template(default).substitute(texts)
            self.values[attribute] = declared.parse(text)
            self.texts[name] = str(self.values[attribute])
        except KeyError:
            pass  # the problem is the other variable's
        except ValueError as error:
            self.problems.append(f"{name}={declared.shown(text)}: {error}")

    def add_secrets(self, file: Path, new_secrets: Mapping[str, str]) -> None:
        """From the file, what the environment does not set."""
        try:
            mode, text = file.stat().st_mode, file.read_text()
        except FileNotFoundError:
            self.set_secrets = f"Set it, or run `make run` once, which creates it in {file}."
            self.given = {**new_secrets, **self.given}
            return
        except (OSError, ValueError) as error:
            self.problems.append(f"{file}: It cannot be read ({error}). Make it readable by the user of this program.")
            return
        self.set_secrets = f"Set it, or add it to {file}."
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            chmod = f"chmod 600 {shlex.quote(str(file))}"
            self.problems.append(
                f"{file}: Other users can read or write it. Run {chmod}, and check whether anyone has."
            )
        for number, line in enumerate(text.splitlines(), 1):
            match = LINE.fullmatch(line)
            if not match:
                self.problems.append(f"{file}, line {number}: Write NAME=value.")
            elif match["name"] and match["name"] not in NAMES - {"CONSOLE_DATA_DIR"}:
                self.problems.append(f"{file}, line {number}: {match['name']} can be set only in the environment.")
            elif match["value"]:
                self.given.setdefault(match["name"], match["value"])

    def check_writable(self, folder: Path) -> None:
        place = next(place for place in (folder, *folder.parents) if os.path.exists(place))
        if not os.access(place, os.W_OK | os.X_OK, effective_ids=True):
            user = f"the user of this program ({os.geteuid()})"
            self.problems.append(
                f"CONSOLE_DATA_DIR={folder}: {place} is not writable by {user}. Set a writable folder."
            )
