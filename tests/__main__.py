"""`make test`: everything on SQLite, then again on a PostgreSQL of its own, with the coverage of both together."""

import os
import shutil
import subprocess
import sys
from collections.abc import Collection

from tests.support.postgres import postgres, postgres_folder
from tests.support.servers import ROOT

NEEDED = {  # the mark of tests that need a program, that program, and its package of Debian
    "browser": ("chromium", "chromium", "in a browser"),
    "gateway": ("nginx", "nginx-light", "behind nginx"),
    "slow_clients": ("slowhttptest", "slowhttptest", "with slow clients"),
}
ONCE = {"browser", "scanner"}  # the same on every database
COVERAGE = [sys.executable, "-m", "coverage"]


def pytest(*words: str, **environment: str) -> int:
    command = [*COVERAGE, "run", "-m", "pytest", *words]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment).returncode


def without(marks: Collection[str]) -> list[str]:
    return ["-m", " and ".join(f"not {mark}" for mark in marks)] if marks else []


def main() -> int:
    os.environ.pop("DATABASE_URL", None)
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"
    left_out = [mark for mark, (program, _, _) in NEEDED.items() if not shutil.which(program, path=path)]
    programs = postgres_folder()
    missing = len(left_out) + (programs is None)
    for mark in left_out:
        program, package, tests = NEEDED[mark]
        print(f"Left out: the tests {tests}, because {program} is missing (Debian's package {package}).")
    if programs is None:
        print("Left out: the tests on PostgreSQL, because it is missing (Debian's package postgresql).")
    if missing and os.environ.get("CI") == "true":
        print("With CI=true nothing may be left out.")
        return 1
    subprocess.run([*COVERAGE, "erase"], cwd=ROOT, check=True)
    failed = pytest(*without(left_out))
    if programs:
        with postgres(programs) as address:
            failed = pytest(*without({*ONCE, *left_out}), DATABASE_URL=address) or failed
    subprocess.run([*COVERAGE, "combine", "--quiet"], cwd=ROOT, check=True)
    report = subprocess.run([*COVERAGE, "report", "--fail-under", "0" if missing else "100"], cwd=ROOT).returncode
    return failed or report


if __name__ == "__main__":
    sys.exit(main())
