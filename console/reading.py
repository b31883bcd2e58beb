"""Environment variables, as they are read: what is set, what it means, and what is wrong with it."""

import os
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from console import secret_files
from console.database_url import Database

NOT_IN_FILE = {"CONSOLE_DATA_DIR", "SECRETS_FILE"}  # which say where secrets.env is


@dataclass(frozen=True)
class Variable:
    name: str
    parse: Callable[[str], Any]
    default: str | None  # as text, in which $NAME is another variable's value; None where it must be set
    shown: Callable[[str], str]  # its value, in an error


class Reading:
    """What has been read so far, and the problems with it."""

    def __init__(self, variables: Mapping[str, Variable], given: dict[str, str], needs: Collection[str] | None) -> None:
        self.variables, self.given, self.needs = variables, given, needs
        self.values: dict[str, Any] = {}  # by attribute
        self.texts: dict[str, str] = {}  # the same by name, for defaults that refer to them
        self.problems: list[str] = []
        self.set_secrets = ""  # how to; empty while the data folder or the file is itself a problem

    def parse(self, attribute: str) -> None:
        declared = self.variables[attribute]
        if declared.default is None and self.needs is not None and declared.name not in self.needs:
            self.given.pop(declared.name, None)
        if declared.default is None and declared.name not in self.given:
            self.values[attribute] = ""
            if self.needs and declared.name in self.needs and self.set_secrets:
                self.problems.append(f"{declared.name}: Not set. {self.set_secrets}")
            return
        try:
            default = declared.default or ""
            texts = {name: quote(text) for name, text in self.texts.items()} if "://" in default else self.texts
            text = self.given.get(declared.name) or Template(default).substitute(texts)
            self.values[attribute] = declared.parse(text)
            self.texts[declared.name] = str(self.values[attribute])
        except KeyError:
            pass  # the problem is the other variable's
        except ValueError as error:
            self.problems.append(f"{declared.name}={declared.shown(text)}: {error}")

    def add_secrets(self, file: Path, new_secrets: Mapping[str, str] | None) -> None:
        """From the file, what the environment does not set."""
        names = {each.name for each in self.variables.values()} - NOT_IN_FILE
        try:
            exposed, text = secret_files.exposed(file), file.read_text()
        except FileNotFoundError:
            if "SECRETS_FILE" in self.given and new_secrets is None:
                self.problems.append(f"SECRETS_FILE={file}: There is no such file. Set the file with the secrets.")
                return
            self.set_secrets = f"Set it, or run `make run` once, which creates it in {file}."
            self.given = {**(new_secrets or {}), **self.given}
            return
        except (OSError, ValueError) as error:
            self.problems.append(f"{file}: It cannot be read ({error}). Make it readable by the user of this program.")
            return
        self.set_secrets = f"Set it, or add it to {file}."
        self.problems += filter(None, [exposed])
        for number, line in enumerate(text.splitlines(), 1):
            match = secret_files.LINE.fullmatch(line)
            if not match:
                self.problems.append(f"{file}, line {number}: Write NAME=value.")
            elif match["name"] and match["name"] not in names:
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

    def check_ports(self) -> None:
        names: dict[int, str] = {}
        for attribute in ("port", "gate_port", "gate_metrics_port"):
            name, port = self.variables[attribute].name, self.values.get(attribute)
            if port and names.setdefault(port, name) != name:
                self.problems.append(f"{name}={port}: {names[port]} has the same value. Set two different ports.")

    def databases(self) -> list[Database]:
        found = (self.values.get("database"), self.values.get("gate_database"))
        return [database for database in found if database]

    def check_files(self) -> None:
        """SQLite's: who reads them has the digest of every password."""
        for database in self.databases():
            for suffix in ("", "-wal", "-shm") if database.sqlite_file else ():
                with suppress(OSError):
                    self.problems += filter(None, [secret_files.exposed(Path(f"{database.sqlite_file}{suffix}"))])
