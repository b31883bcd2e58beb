"""The documents name what there is: links, files, modules, functions, commands, and the words of the code."""

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from django.core.management import get_commands

from console.ledger.kinds import Kind
from tests.support.servers import ROOT

pytestmark = pytest.mark.once
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SOURCES = [ROOT / "Makefile", ROOT / "deploy" / "nginx.conf", ROOT / "docs" / "gate.openapi.yaml"]
SOURCES += [file for name in ("apikeys", "bench", "console", "tests") for file in (ROOT / name).rglob("*.py")]
SOURCES.remove(Path(__file__))
FENCED = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
TEST = re.compile(r"\b((?:attacks/|browser/)?test_\w+)(?:::(\w+))?")  # test_file::test_function
PART = re.compile(r"`([A-Za-z_.]+)`\s\(`([a-z_/]+\.py)`\)")  # `Class.method` (`the/file.py`)
MODULE = re.compile(r"(?<![\w/.-])((?:apikeys|bench|console|docs|tests)(?:\.[a-z_]+)+)(?::([A-Za-z]\w*))?(?![\w/])")


@cache
def defined(file: Path) -> set[str]:
    """The names of a module, and those of its classes as `Class.name`."""
    found = set()
    for node in ast.parse(file.read_text()).body:
        name = getattr(node, "name", "")
        found |= {name} | {f"{name}.{getattr(inner, 'name', '')}" for inner in getattr(node, "body", [])}
    return found


@cache
def headings(file: Path) -> set[str]:
    """As GitHub makes anchors of them."""
    titles = re.findall(r"^#+ (.+)$", FENCED.sub("", file.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def module_file(module: str) -> Path | None:
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec and spec.origin else None


def broken_links(prose: str, folder: Path) -> Iterator[str]:
    for target in LINK.findall(prose):
        path, _, anchor = target.partition("#")
        file = (folder / path).resolve() if path else folder
        if "://" not in target and (not file.exists() or (anchor and path and anchor not in headings(file))):
            yield target


def missing_parts(prose: str) -> Iterator[str]:
    """Files, and what is said to be in them."""
    tops = {path.name for path in ROOT.iterdir()}
    for code in CODE.findall(prose):
        path = re.fullmatch(r"([\w.-]+)/[\w./-]*", code)
        if path and path[1] in tops and not (ROOT / code).exists():
            yield code
    for name, file in PART.findall(prose):
        if (ROOT / file).exists() and name not in defined(ROOT / file):
            yield f"{name} ({file})"
    for name, function in TEST.findall(prose):
        test = ROOT / "tests" / f"{name}.py"
        if not test.exists():
            yield name
        elif function and f"def {function}(" not in test.read_text():
            yield f"{name}::{function}"


def missing_commands(text: str) -> Iterator[str]:
    code = "\n".join([*FENCED.findall(text), *CODE.findall(FENCED.sub("", text))])
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for target in re.findall(r"^ *make ([a-z]+)", code, re.MULTILINE):
        if target not in targets:
            yield f"make {target}"
    for command in re.findall(r"manage\.py ([a-z_]+)", code):
        if command not in get_commands():
            yield f"manage.py {command}"
    for module, name in MODULE.findall(code):
        file = module_file(module)
        if file is None or (name and name not in defined(file)):
            yield f"{module}:{name}" if name else module


def problems(text: str, folder: Path) -> list[str]:
    prose = FENCED.sub("", text)
    return [*broken_links(prose, folder), *missing_parts(prose), *missing_commands(text)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_what_a_document_names_exists(document: Path) -> None:
    text = document.read_text()
    if document.name == "CHANGELOG.md":  # also names what there was
        assert [*broken_links(text, document.parent)] == []
    else:
        assert problems(text, document.parent) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[gone](docs/gone.md)", "docs/gone.md"),
        ("[gone](README.md#gone)", "README.md#gone"),
        ("`console/gone.py`", "console/gone.py"),
        ("`gone`\n(`console/vault.py`)", "gone (console/vault.py)"),
        ("`Vault.gone` (`console/vault.py`)", "Vault.gone (console/vault.py)"),
        ("| checked by test_gone |", "test_gone"),
        ("| checked by test_docs::test_gone |", "test_docs::test_gone"),
        ("`make gone`", "make gone"),
        ("```sh\nmake gone\n```", "make gone"),
        ("`manage.py gone`", "manage.py gone"),
        ("`python -m console.gone`", "console.gone"),
        ("```sh\ngunicorn console.wsgi:gone\n```", "console.wsgi:gone"),
    ],
)
def test_what_does_not_exist_is_found(text: str, problem: str) -> None:
    assert problems(text, ROOT) == [problem]


def test_the_code_refers_to_documents_that_exist() -> None:
    named = {name for file in SOURCES for name in re.findall(r"\bdocs/[\w/.-]+\.(?:md|yaml|png)", file.read_text())}
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_readme_has_every_package_and_why() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    packages = {re.split(r"[\[~=<>]", one)[0] for one in project["dependencies"]}
    table = (ROOT / "README.md").read_text().partition("## Packages")[2]
    rows = re.findall(r"^\| ([a-z0-9, -]+) \| \S", table, re.MULTILINE)
    assert {name for row in rows for name in row.split(", ")} - {"package"} == packages


@pytest.mark.parametrize("gateway", ["Traefik", "Caddy", "Envoy"])
def test_every_gateway_hides_the_key_from_the_service(gateway: str) -> None:
    section = (ROOT / "docs" / "gateways.md").read_text().partition(f"\n## {gateway}\n")[2].partition("\n## ")[0]
    hidden = "\n".join(
        re.findall(r"^.*(?:customRequestHeaders|header_up -|headers_to_remove).*$", section, re.MULTILINE)
    )
    assert "dashvector-auth-token" in hidden and "authorization" in hidden.lower()


def test_the_operators_have_every_code_of_the_ledger() -> None:
    section = (ROOT / "docs" / "operations.md").read_text().partition("## The ledger")[2].partition("\n## ")[0]
    assert sorted(re.findall(r"`([a-z_]+\.[a-z_]+)`", section)) == sorted(Kind.values)


def test_the_operators_have_every_command() -> None:
    ours = {name for name, app in get_commands().items() if app in {"apikeys", "console"}}
    text = (ROOT / "docs" / "operations.md").read_text()
    assert {name for name in ours if f"manage.py {name}" not in text} == set()
