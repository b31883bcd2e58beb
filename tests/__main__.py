"""`make test`: everything on SQLite, then again on a PostgreSQL of its own, with the coverage of both together."""

import contextlib
import glob
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from tests.servers import ROOT, free_port

NEEDED = {  # the mark of tests that need a program, that program, and its package of Debian
    "browser": ("chromium", "chromium", "in a browser"),
    "gateway": ("nginx", "nginx-light", "behind nginx"),
    "slow_clients": ("slowhttptest", "slowhttptest", "with slow clients"),
}
ONCE = {"browser", "scanner"}  # the same on every database
COVERAGE = [sys.executable, "-m", "coverage"]


def postgres_folder() -> Path | None:
    """Where Debian's or the PATH's PostgreSQL keeps its programs."""
    found = shutil.which("initdb") or max(glob.glob("/usr/lib/postgresql/*/bin/initdb"), default=None)
    return Path(found).parent if found else None


@contextlib.contextmanager
def postgres(programs: Path) -> Iterator[str]:
    """A PostgreSQL for as long as the tests run, owned by an ordinary user; its address."""
    user = "postgres" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="console-postgres-", ignore_cleanup_errors=True) as folder:
        if user:
            shutil.chown(folder, user)
        data, port = f"{folder}/data", free_port()

        def call(program: str, *words: str) -> None:
            command = [str(programs / program), *words]
            subprocess.run(command, cwd=folder, check=True, user=user, stdout=subprocess.DEVNULL)

        call("initdb", "-D", data, "-U", "console", "--auth=trust", "--encoding=UTF8", "--no-sync")
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=300"
        call("pg_ctl", "-D", data, "-w", "-o", options, "-l", f"{folder}/log", "start")
        try:
            yield f"postgres://console@127.0.0.1:{port}/postgres"
        finally:
            call("pg_ctl", "-D", data, "-m", "immediate", "stop")


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
