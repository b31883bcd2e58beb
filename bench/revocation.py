"""Is a deleted key ever accepted again? Callers keep several gate workers busy while keys are deleted.

A call counts as leaked when it *began* after the deletion had returned and was accepted all the same.

    make revocation     1,000 deletions on SQLite, and on PostgreSQL
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import django
from django.db import connection

from tests.__main__ import postgres, postgres_folder
from tests.person import wait_for


@dataclass
class Result:
    deletions: int
    accepted: int = 0  # calls accepted before their key was deleted
    refused: int = 0  # calls refused after it
    leaked: int = 0  # calls that began after it and were accepted

    def __str__(self) -> str:
        return (
            f"{self.deletions} deletions: {self.leaked} calls that began after one were accepted "
            f"({self.accepted} accepted before, {self.refused} refused after)"
        )


def measure(folder: Path, deletions: int, at_once: int = 8, workers: int = 3, progress: bool = False) -> Result:
    """Delete that many keys through ApiKey.delete, each while its caller is being accepted."""
    from tests.gates import Callers, Gate, new_key  # once Django is set up

    result = Result(deletions)
    with Gate(folder, workers=workers) as gate:
        while deletions > 0:
            made = [new_key() for _ in range(min(at_once, deletions))]
            deleted_at: dict[str, float] = {}
            refused: set[str] = set()
            callers = Callers(gate.port, [secret for _, secret in made])

            def watch(
                secret: str,
                began: float,
                status: int,
                deleted_at: dict[str, float] = deleted_at,
                refused: set[str] = refused,
            ) -> None:
                after = began > deleted_at.get(secret, began)
                if status != 200:
                    refused.add(secret)
                result.accepted += status == 200 and not after
                result.leaked += status == 200 and after
                result.refused += status != 200

            callers.watch = watch
            thread = threading.Thread(target=asyncio.run, args=[callers.run()])
            thread.start()
            for key, secret in made:
                before = callers.accepted[secret]
                wait_for(lambda: callers.accepted[secret] > before)  # noqa: B023
                key.delete()
                deleted_at[secret] = time.monotonic()
            wait_for(lambda: len(refused) == len(made))  # noqa: B023
            callers.stopped = True
            thread.join()
            deletions -= len(made)
            if progress:
                print(f"\r{result.deletions - deletions} of {result.deletions}", end="", file=sys.stderr, flush=True)
    return result


def measure_here(deletions: int) -> int:
    """On the database that the environment names, in a test database of its own."""
    django.setup()
    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    try:
        with tempfile.TemporaryDirectory() as folder:
            result = measure(Path(folder), deletions, progress=True)
    finally:
        connection.creation.destroy_test_db(str(connection.settings_dict["NAME"]), verbosity=0)
    print(f"\n{connection.vendor}: {result}")
    return 1 if result.leaked else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deletions", type=int, default=1000)
    parser.add_argument("--here", action="store_true", help="only on the database that DATABASE_URL names")
    words = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    if words.here:
        return measure_here(words.deletions)
    command = [sys.executable, "-m", "bench.revocation", "--here", "--deletions", str(words.deletions)]
    leaked = subprocess.run(command).returncode
    programs = postgres_folder()
    if programs is None:
        print("Left out: PostgreSQL, because it is missing (Debian's package postgresql).")
        return leaked
    with postgres(programs) as address:
        return subprocess.run(command, env=os.environ | {"DATABASE_URL": address}).returncode or leaked


if __name__ == "__main__":
    sys.exit(main())
