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
    programs, left_out, missing = postgres_folder(), [], 0
    if not shutil.which("chromium"):
        missing += 1
        left_out.append("browser")
        print("Left out: the tests in a browser, because Chromium is missing (Debian's package chromium).")
    if not shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"):
        missing += 1
        left_out.append("gateway")
        print("Left out: the tests behind nginx, because it is missing (Debian's package nginx-light).")
    if not programs:
        missing += 1
        print("Left out: the tests on PostgreSQL, because it is missing (Debian's package postgresql).")
    if missing and os.environ.get("CI") == "true":
        print("With CI=true nothing may be left out.")
        return 1
    subprocess.run([*COVERAGE, "erase"], cwd=ROOT, check=True)
    failed = pytest(*without(left_out))
    if programs:
        with postgres(programs) as address:
            failed = pytest(*without({"browser", *left_out}), DATABASE_URL=address) or failed
    subprocess.run([*COVERAGE, "combine", "--quiet"], cwd=ROOT, check=True)
    report = subprocess.run([*COVERAGE, "report", "--fail-under", "0" if missing else "100"], cwd=ROOT).returncode
    return failed or report


if __name__ == "__main__":
    sys.exit(main())
