"""The environment variables of the product, each declared once, and read once into what the programs use.

Free of Django, for the gate. docs/operations.md explains each of them.
"""

import os
import re
import shlex
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from console import database_url, parsers
from console.database_url import Database
from console.parsers import Mail
from console.proxies import TrustedProxies
from console.reading import Reading, Variable
from console.vault import MAX_DIGEST_KEYS

T = TypeVar("T")
PASSWORD = "PGPASSWORD"  # libpq's; every process would have it in its environment


class ConfigurationError(Exception):
    """The problems with the environment, one per line, each with what to set."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))


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
    secrets_file: Path = variable("SECRETS_FILE", parsers.ROOT.joinpath, "$CONSOLE_DATA_DIR/secrets.env")
    port: int = variable("PORT", parsers.integer(1, 65535), "8000")
    gate_port: int = variable("GATE_PORT", parsers.integer(1, 65535), "8001")
    gate_metrics_port: int | None = variable("GATE_METRICS_PORT", parsers.optional(parsers.integer(1, 65535)), "")
    console_url: str = variable("CONSOLE_URL", parsers.site_url, "http://127.0.0.1:$PORT", url_without_password)
    console_workers: int = variable("CONSOLE_WORKERS", parsers.integer(1, 1000), "2")
    gate_workers: int = variable("GATE_WORKERS", parsers.integer(1, 1000), "2")
    gate_max_connections: int = variable("GATE_MAX_CONNECTIONS", parsers.integer(1, 1_000_000), "4096")
    trusted_proxies: TrustedProxies = variable("TRUSTED_PROXIES", TrustedProxies.parse, "")
    database: Database = variable(
        "DATABASE_URL", database_url.parse, "sqlite:///$CONSOLE_DATA_DIR/console.sqlite3", url_without_password
    )
    gate_database: Database | None = variable(
        "GATE_DATABASE_URL", parsers.optional(database_url.parse), "", url_without_password
    )
    mail: Mail = variable("EMAIL_URL", parsers.mail, "dummymail://", url_without_password)
    mail_from: str = variable("EMAIL_FROM", parsers.sender, "console@localhost")
    deleted_keys_file: Path = variable("DELETED_KEYS_FILE", parsers.file, "$CONSOLE_DATA_DIR/deleted-keys")
    leak_report_public_keys: Path | None = variable("LEAK_REPORT_PUBLIC_KEYS", parsers.public_keys_file, "")
    ledger_heads_file: Path | None = variable("LEDGER_HEADS_FILE", parsers.appended_file, "")
    metering_seconds: float = variable("METERING_SECONDS", parsers.seconds(0.01, 3600), "5")
    time_zone: str = variable("TIME_ZONE", parsers.time_zone, "UTC")
    api_keys_max_active: int = variable("API_KEYS_MAX_ACTIVE", parsers.integer(0, 1_000_000), "3")
    api_keys_max_created_per_day: int = variable("API_KEYS_MAX_CREATED_PER_DAY", parsers.integer(0, 1_000_000), "10")
    root_password: str = variable("CONSOLE_ROOT_PASSWORD", str, "", hidden)
    secret_key: str = variable("SECRET_KEY", parsers.secret_key, None, hidden)
    secret_key_fallbacks: list[str] = variable("SECRET_KEY_FALLBACKS", parsers.secret_keys, "", hidden)
    vault_keys: str = variable("VAULT_KEYS", parsers.versioned_keys(2**16), None, hidden)
    digest_keys: str = variable("DIGEST_KEYS", parsers.versioned_keys(MAX_DIGEST_KEYS), None, hidden)
    given: Mapping[str, str] = field(repr=False, compare=False)  # the texts of all that is set, by name

    @property
    def ledger_heads_key(self) -> Path:
        return self.data_dir / "ledger-heads.key"

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
    def for_gate(self) -> Path | str:
        """Where the gate looks keys up: a file of SQLite, or what libpq takes."""
        database = self.gate_database or self.database
        return database.sqlite_file or database.conninfo

    @property
    def sqlite_file(self) -> Path | None:
        return self.database.sqlite_file


VARIABLES: dict[str, Variable] = {each.name: each.metadata["variable"] for each in fields(Environment) if each.metadata}
NAMES = {each.name for each in VARIABLES.values()}
SECRETS = {each.name for each in VARIABLES.values() if each.shown is not plain and each.name != "CONSOLE_URL"}
KEYS = {each.name for each in VARIABLES.values() if each.default is None}  # which must be set, for who needs them


def read(
    environ: Mapping[str, str] = os.environ,
    new_secrets: Mapping[str, str] | None = None,
    needs: Collection[str] | None = KEYS,
) -> Environment:
    """The environment, completed by secrets.env and by the defaults; an empty variable counts as unset.

    Of KEYS, those in `needs` must be set, and the others are not read; with None, those that are set are read.
    `new_secrets` are for a first start: they stand in for secrets.env where there is none, and the data folder must be
    writable. Raises ConfigurationError with every problem.
    """
    reading = Reading(VARIABLES, {name: environ[name] for name in NAMES if environ.get(name)}, needs)
    first, second, *others = VARIABLES
    reading.parse(first)
    reading.parse(second)
    if file := reading.values.get(second):
        reading.add_secrets(file, new_secrets)
        if new_secrets is not None:
            reading.check_writable(reading.values[first])
    for attribute in others:
        reading.parse(attribute)
    reading.check_files()
    if environ.get(PASSWORD) and any(database.postgres for database in reading.databases()):
        reading.problems.append(
            f"{PASSWORD}=…: Unset it, and put the password into DATABASE_URL or libpq's PGPASSFILE."
        )
    reading.check_ports()
    if reading.problems:
        raise ConfigurationError(reading.problems)
    return Environment(**reading.values, given=reading.given)


def read_or_exit(needs: Collection[str] = KEYS) -> Environment:
    """For programs without Django."""
    try:
        return read(needs=needs)
    except ConfigurationError as error:
        raise SystemExit(str(error)) from None


def without_secrets(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """For another program, which gets its secrets in a file."""
    return {name: text for name, text in environ.items() if name not in SECRETS | {PASSWORD}}
