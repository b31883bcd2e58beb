"""Is a deleted key ever accepted again? Callers keep several gate workers busy while keys are deleted.

A call counts as leaked when it *began* after the deletion had returned and was accepted all the same.

    make revocation     1,000 deletions on SQLite, and on PostgreSQL
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import django
from django.db import connection

from tests.support.postgres import postgres, postgres_folder


def measure_one(deletions: int) -> int:
    """On the database server of the environment, in a test database."""
    django.setup()
    from tests.support.revocation import measure  # which needs the models

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
    parser.add_argument("--one", action="store_true", help="measure only on the database of DATABASE_URL")
    words = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.support.settings")
    if words.one:
        return measure_one(words.deletions)
    command = [sys.executable, "-m", "bench.revocation", "--one", "--deletions", str(words.deletions)]
    leaked = subprocess.run(command).returncode
    programs = postgres_folder()
    if programs is None:
        print("Left out: PostgreSQL, because it is missing (Debian's package postgresql).")
        return leaked
    with postgres(programs) as address:
        return subprocess.run(command, env=os.environ | {"DATABASE_URL": address}).returncode or leaked


if __name__ == "__main__":
    sys.exit(main())
