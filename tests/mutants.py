"""`make mutants`: changes limits, security authentication, vault and gate in a thousand small ways, and runs the tests
on each change. A statement of which changes go unnoticed has a comment above it, `# unnoticed mutants (2): why`, with
their number; one without it, or with another number, is a failure."""

import ast
import contextlib
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, cast

from tests.support.postgres import postgres, postgres_folder
from tests.support.servers import ROOT

IN_MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
TOO_LONG = (24, 36, 152, 255, -24)  # mutmut's words for a mutant that kept the tests busy or waiting for too long,
UNNOTICED = (0, 33)  # and for one that the tests passed with, or that no test came near to
ENOUGH = 1000  # fewer, and something was left out
ONLY_POSTGRES = ["apikeys.gate.postgres.*", "apikeys.gate.app.xǁGateǁ__init__*"]
SKIPPED = shutil.ignore_patterns(".*", "var", "mutants", "__pycache__", "*.png")
NOTE = re.compile(r"# unnoticed mutants \((\d+)\): \w")
Place = tuple[str, int]  # a file and a line of it
Ended = dict[str, int]  # how each mutant did, by its name


@dataclass
class Copy:
    """The project in a folder of its own, in which mutmut runs on one database."""

    folder: Path
    environment: dict[str, str]

    def run(self, names: list[str]) -> Ended:
        """Try the mutants of these names, or all; how those that were ever tried ended."""
        if not self.folder.exists():
            shutil.copytree(ROOT, self.folder, ignore=SKIPPED)
        output, environment = self.folder / "mutmut", os.environ | self.environment
        with output.open("w") as out:  # it draws its progress some times a second
            command = [sys.executable, "-m", "mutmut", "run", *names]
            process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=out, stderr=out)
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            print(f"{self.folder.name}: {output.read_text()[-200:].splitlines()[-1].strip()}", flush=True)
        if process.returncode:
            print(output.read_text()[-4000:])
            raise SystemExit(1)
        ended: dict[str, int | None] = {}
        for file in (self.folder / "mutants").rglob("*.meta"):
            ended |= json.loads(file.read_text())["exit_code_by_key"]
        return {name: code for name, code in ended.items() if code is not None}


def on_both(sqlite: Copy, postgresql: Copy, names: list[str], only_postgres: list[str]) -> Ended:
    """What was noticed on one of them was noticed."""
    with ThreadPoolExecutor() as both:
        first = both.submit(sqlite.run, names)
        second = both.submit(postgresql.run, only_postgres) if only_postgres else None
    ended = first.result()
    again = second.result() if second else {}
    return ended | {name: code for name, code in again.items() if ended.get(name) in UNNOTICED}


@functools.cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def inner(node: ast.AST) -> Iterator[ast.stmt]:
    """The statements directly inside of that one."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield child
        else:
            yield from inner(child)


def changed(source: ast.stmt, before: ast.stmt, after: ast.stmt) -> ast.stmt:
    """The innermost statement of `source` that a mutant changes; mutmut's copies of it are `before` and `after`."""
    for own, old, new in zip(inner(source), inner(before), inner(after), strict=False):
        if ast.dump(old) != ast.dump(new):
            return changed(own, old, new)
    return source


def place(folder: Path, mutant: str) -> Place:
    """Where the statement begins that `module.x_function__mutmut_7` or `module.xǁClassǁmethod__mutmut_7` changes."""
    module, _, name = mutant.rpartition(".")
    function = name.rpartition("__mutmut_")[0]
    file = module.replace(".", "/") + ".py"
    source: Any = parsed(folder / file)
    for part in function.split("ǁ")[1:] or [function.removeprefix("x_")]:
        source = next(node for node in source.body if getattr(node, "name", "") == part)
    made = {getattr(node, "name", ""): node for node in ast.walk(parsed(folder / "mutants" / file))}
    before, after = cast(ast.stmt, made[f"{function}__mutmut_orig"]), cast(ast.stmt, made[name])
    return file, changed(source, before, after).lineno


def places(folder: Path, mutants: Iterable[str]) -> defaultdict[Place, list[str]]:
    found: defaultdict[Place, list[str]] = defaultdict(list)
    for mutant in mutants:
        found[place(folder, mutant)].append(mutant)
    return found


def change(folder: Path, mutant: str) -> str:
    """What it changes: `before → after`."""
    from mutmut.__main__ import get_diff_for_mutant  # type: ignore[attr-defined]  # reads the folder it is in

    with contextlib.chdir(folder):
        lines = get_diff_for_mutant(mutant).splitlines()
    sides = [[line[1:].strip() for line in lines if line[0] == sign and line[:3] != sign * 3] for sign in "-+"]
    return f"{' '.join(sides[0])} → {' '.join(sides[1])}"


def explained(folder: Path) -> dict[Place, int]:
    """The statements with a comment on unnoticed mutants, and the number in it."""
    found = {}
    for file in [*folder.glob("apikeys/**/*.py"), *folder.glob("console/**/*.py")]:
        lines = file.read_text().splitlines()
        for number, line in enumerate(lines):
            if note := NOTE.match(line.strip()):
                below = next((n for n in range(number, len(lines)) if not lines[n].strip().startswith("#")), number)
                found[str(file.relative_to(folder)), below + 1] = int(note[1])
    return found


def noticed_too_many(folder: Path, ended: Ended) -> list[str]:
    """The noticed mutants of each statement whose comment explains more than went unnoticed."""
    notes, mutants = explained(folder), places(folder, ended)
    few = [spot for spot in notes if sum(ended[name] in UNNOTICED for name in mutants[spot]) < notes[spot]]
    return [name for spot in few for name in mutants[spot] if ended[name] not in UNNOTICED]


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # PostgreSQL ends with it
    programs = postgres_folder()
    if not programs:
        print("PostgreSQL is missing (Debian's package postgresql); its half of the gate needs it.")
        return 1
    with tempfile.TemporaryDirectory(prefix="console-mutants-", dir=IN_MEMORY) as kept, postgres(programs) as url:
        data = {"CONSOLE_DATA_DIR": f"{kept}/data"}
        sqlite = Copy(folder := Path(kept) / "sqlite", data)
        here = data | {"DATABASE_URL": url, "PYTEST_ADDOPTS": "-k 'lookup or gate'"}
        postgresql = Copy(Path(kept) / "postgres", here)
        ended = on_both(sqlite, postgresql, [], ONLY_POSTGRES)
        if doubtful := noticed_too_many(folder, ended):  # by chance? A test may fail on a busy machine.
            there = [name for name in doubtful if any(fnmatch(name, pattern) for pattern in ONLY_POSTGRES)]
            again = on_both(sqlite, postgresql, doubtful, there)
            ended |= {name: again[name] for name in doubtful if again[name] in UNNOTICED}
        return report(folder, ended)


def report(folder: Path, ended: Ended) -> int:
    notes, faults = explained(folder), 0
    unnoticed = places(folder, [name for name, code in ended.items() if code in UNNOTICED])
    late = places(folder, [name for name, code in ended.items() if code in TOO_LONG])  # noticed, or not
    for spot in sorted({*unnoticed, *notes}):
        found, said = unnoticed[spot], notes.get(spot, 0)
        if len(found) <= said <= len(found) + len(late[spot]):
            continue
        faults += 1
        print(f"{spot[0]}:{spot[1]}: {len(found)} mutants go unnoticed, the comment above explains {said}")
        print(*(f"    {name}: {change(folder, name)}\n" for name in found), sep="", end="")
    print(
        f"{len(ended)} mutants: {sum(map(len, unnoticed.values()))} unnoticed, {sum(map(len, late.values()))} took too "
        f"long; {faults} statements lack an explanation or have a wrong one"
    )
    return 1 if faults or len(ended) < ENOUGH else 0


if __name__ == "__main__":
    sys.exit(main())
