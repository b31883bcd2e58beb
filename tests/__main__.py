"""`make test`: every test on SQLite, and what asks a database again on a PostgreSQL of its own, with the coverage of
both together. Each run has a worker for each processor, and each worker has a database of its own."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from xml.etree import ElementTree

from tests.support.postgres import postgres, postgres_folder
from tests.support.servers import ROOT

NEEDED = {  # the mark of tests that need a program, that program, and its package of Debian
    "browser": ("chromium", "chromium", "in a browser"),
    "gateway": ("nginx", "nginx-light", "behind nginx"),
    "sandbox": ("systemd-analyze", "systemd", "of the sandboxes of deploy/systemd"),
    "slow_clients": ("slowhttptest", "slowhttptest", "with slow clients"),
}
ONCE = {"browser", "once"}  # prove the same on every database
COVERAGE = [sys.executable, "-m", "coverage"]
SIDE_BY_SIDE = ["-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder"]


class Runs:
    """What came of them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.failed = folder, False
        self.counts: Counter[str] = Counter()

    def pytest(self, database: str, without: Collection[str], **environment: str) -> None:
        """All tests but those with these marks. They are deselected, not skipped: a skip is for what runs nowhere."""
        report = self.folder / f"{database}.xml"
        marks = " and ".join(f"not {mark}" for mark in sorted(without))
        command = [*COVERAGE, "run", "-m", "pytest", *SIDE_BY_SIDE, "-m", marks, f"--junitxml={report}"]
        data = self.folder / database
        data.mkdir()
        environment = {**os.environ, "CONSOLE_DATA_DIR": str(data), **environment}
        print(f"\nOn {database}:", flush=True)
        self.failed |= subprocess.run(command, cwd=ROOT, env=environment).returncode != 0
        for suite in ElementTree.parse(report).iter("testsuite") if report.exists() else ():
            for name in ("tests", "failures", "errors", "skipped"):
                self.counts[name] += int(suite.get(name, 0))

    def __str__(self) -> str:
        failed, skipped = self.counts["failures"] + self.counts["errors"], self.counts["skipped"]
        return f"Tests: {self.counts['tests'] - failed - skipped} passed, {failed} failed, {skipped} skipped"


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # PostgreSQL ends with it
    os.environ.pop("DATABASE_URL", None)
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"
    left_out = {mark for mark, (program, _, _) in NEEDED.items() if not shutil.which(program, path=path)}
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
    with tempfile.TemporaryDirectory(prefix="console-tests-") as folder:
        runs = Runs(Path(folder))
        runs.pytest("SQLite", {"postgres", *left_out})
        if programs:
            with postgres(programs) as url:
                runs.pytest("PostgreSQL", {*ONCE, *left_out}, DATABASE_URL=url)
    subprocess.run([*COVERAGE, "combine", "--quiet"], cwd=ROOT, check=True)
    report = subprocess.run([*COVERAGE, "report", "--fail-under", "0" if missing else "100"], cwd=ROOT).returncode
    print(runs)
    return 1 if runs.failed or report else 0


if __name__ == "__main__":
    sys.exit(main())
