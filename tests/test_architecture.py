"""Imports go one way, as docs/architecture.md draws the layers: downward, from `apikeys` to `console`, in no circle."""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.support.servers import ROOT

pytestmark = pytest.mark.once
# From the top. A module belongs to the longest name that it begins with; what is not named stands below all of them.
LAYERS = [
    [
        "console.urls",
        "console.wsgi",
        "console.gunicorn_conf",
        "console.start",
        "console.health",
        "console.storage",
        "console.models",
        "console.apps",
        "console.management",
        "console.admin_site",
    ],
    [
        "console.pages",
        "console.operators",
        "console.operator_requests",
        "console.operators_admin",
        "console.requests_admin",
        "console.admin",
    ],
    ["console.access", "console.csp_reports", "console.requests"],
    ["console.devices", "console.factors", "console.sessions", "console.security", "console.recovery"],
    ["console.ledger"],
    ["console.outbox"],
    ["console.accounts", "console.origin"],
]
LEVELS = {name: len(LAYERS) - place for place, names in enumerate(LAYERS) for name in names}


@cache
def modules() -> dict[str, Path]:
    files = [file for name in ("apikeys", "console") for file in (ROOT / name).rglob("*.py")]
    dotted = {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in files}
    return {name.removesuffix(".__init__"): file for name, file in dotted.items() if ".migrations." not in name}


def imported(source: str) -> Iterator[str]:
    """Our modules that it imports, at its top, within a function or for types alone."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name in modules())
        elif isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                yield from (found for found in [inner if inner in modules() else node.module] if found in modules())


@cache
def graph() -> dict[str, set[str]]:
    return {name: set(imported(file.read_text())) for name, file in modules().items()}


def level(module: str) -> int:
    names = [name for name in LEVELS if f"{module}.".startswith(f"{name}.")]
    return LEVELS[max(names, key=len)] if names else 0


def test_there_is_no_circle() -> None:
    try:
        TopologicalSorter(graph()).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_no_import_goes_upward() -> None:
    found = {(one, other) for one, others in graph().items() for other in others if one.startswith("console")}
    assert {(one, other) for one, other in found if level(one) < level(other)} == set()


def test_the_console_knows_the_keys_by_its_urls_alone() -> None:
    users = {name for name, others in graph().items() if any(other.startswith("apikeys") for other in others)}
    assert {name for name in users if name.startswith("console")} == {"console.urls"}


def test_every_layer_is_one_of_modules() -> None:
    assert [name for name in LEVELS if name not in modules()] == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import console.vault", ["console.vault"]),
        ("from console import vault, proxies", ["console.vault", "console.proxies"]),
        ("from console.vault import Vault", ["console.vault"]),
        ("def f():\n    from console.pages import logon", ["console.pages.logon"]),
        ("import json\nfrom django.db import models", []),
    ],
)
def test_what_counts_as_an_import(source: str, found: list[str]) -> None:
    assert [*imported(source)] == found
