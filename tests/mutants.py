"""`make mutants`: changes limits, security authentication, vault and gate in a thousand small ways, and runs the tests
on each change. One that no test notices has to be explained in tests/mutants.toml, or this fails."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.postgres import postgres, postgres_folder
from tests.support.servers import ROOT

IN_MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
TOO_LONG = (24, 36, 152, 255, -24)  # and for one that kept the tests busy or waiting for too long
UNNOTICED = (0, 33)  # mutmut's words for a mutant that the tests passed with, and for one that no test came near to
ENOUGH = 1000  # fewer, and something was left out
ONLY_POSTGRES = ["apikeys.gate.lookup.xǁPostgresLookupǁ*", "apikeys.gate.app.xǁGateǁ__init__*"]
SKIPPED = shutil.ignore_patterns(".*", "var", "mutants", "__pycache__", "*.png")


def run(folder: Path, names: list[str], **environment: str) -> dict[str, int | None]:
    """mutmut on a copy of the project in that folder; how each mutant of those names ended."""
    shutil.copytree(ROOT, folder, ignore=SKIPPED)
    command = [sys.executable, "-m", "mutmut", "run", *names]
    with (folder / "mutmut").open("w") as out:  # it draws its progress some times a second
        process = subprocess.Popen(command, cwd=folder, env=os.environ | environment, stdout=out, stderr=out)
    while process.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        print(f"{folder.name}: {(folder / 'mutmut').read_text()[-200:].splitlines()[-1].strip()}", flush=True)
    if process.returncode:
        print((folder / "mutmut").read_text()[-4000:])
        raise SystemExit(1)
    ended: dict[str, int | None] = {}
    for file in (folder / "mutants").rglob("*.meta"):
        ended |= json.loads(file.read_text())["exit_code_by_key"]
    return {name: code for name, code in ended.items() if code is not None}


def change(name: str) -> str:
    """What a mutant changes: `module.function: before → after`."""
    from mutmut.__main__ import get_diff_for_mutant  # type: ignore[attr-defined]  # reads the folder it is in

    lines = get_diff_for_mutant(name).splitlines()
    sides = [[line[1:].strip() for line in lines if line[0] == sign and line[:3] != sign * 3] for sign in "-+"]
    function = name.rpartition("__mutmut_")[0].replace("xǁ", "").replace("x_", "").replace("ǁ", ".")
    return f"{function}: {' '.join(sides[0])} → {' '.join(sides[1])}"


def main() -> int:
    programs = postgres_folder()
    if programs is None:
        print("PostgreSQL is missing (Debian's package postgresql); its half of the gate needs it.")
        return 1
    explained = tomllib.loads((ROOT / "tests" / "mutants.toml").read_text())["survivors"]
    known = {one for group in explained for one in group["changes"]}
    with tempfile.TemporaryDirectory(prefix="console-mutants-", dir=IN_MEMORY) as kept:
        folder = Path(kept)
        with postgres(programs) as address, ThreadPoolExecutor() as both:
            environment = {"CONSOLE_DATA_DIR": f"{folder}/data"}
            first = both.submit(run, folder / "sqlite", [], **environment)
            second = both.submit(
                run,
                folder / "postgres",
                ONLY_POSTGRES,
                DATABASE_URL=address,
                PYTEST_ADDOPTS="-k 'lookup or gate'",
                **environment,
            )
            ended, again = first.result(), second.result()
        ended |= {name: code for name, code in again.items() if ended.get(name) in UNNOTICED}
        with contextlib.chdir(folder / "sqlite"):
            found = {change(name) for name, code in ended.items() if code in UNNOTICED}
    for one in sorted(found - known):
        print(f"No test notices: {one}")
    for one in sorted(known - found):
        print(f"Explained in tests/mutants.toml, and noticed by a test now: {one}")
    late = sum(code in TOO_LONG for code in ended.values())
    print(
        f"{len(ended)} mutants: {len(found)} not noticed, {len(found - known)} of them not explained; "
        f"{late} noticed by tests that took too long"
    )
    return 1 if found - known or len(ended) < ENOUGH else 0


if __name__ == "__main__":
    sys.exit(main())
