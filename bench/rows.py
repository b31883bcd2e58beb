"""Makes the tables in the database that the environment names, one account, and that many keys of it.

python -m bench.rows 1000000 FOLDER     writes sampled keys into files of FOLDER, and keys of the peers
"""

import argparse
import itertools
import random
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TextIO

import django
from django.conf import settings
from django.core.management import call_command
from django.db import connection, transaction

from apikeys import keyformat

SAMPLED = 200_000
CHUNK = 10_000
COLUMNS = "id, account_id, hint, digest, sealed_secret, request_id, created_at"
Row = tuple[object, ...]


def secret() -> str:
    """As keyformat.new_secret, from a faster source."""
    body = keyformat.PREFIX + "".join(random.choices(keyformat.ALPHABET, k=keyformat.RANDOM_LENGTH))
    return body + keyformat.checksum(body)


def row(key: str, account_id: int, created_at: datetime) -> Row:
    digest = settings.VAULT.digests("api-key", key)[0]
    sealed = random.randbytes(2 + 12 + 16 + keyformat.LENGTH)
    key_id, request_id = (uuid.UUID(int=random.getrandbits(128), version=4).hex for _ in range(2))
    return key_id, account_id, keyformat.hint(key), digest, sealed, request_id, str(created_at)


def rows(count: int, account_id: int, sample: TextIO) -> Iterator[Row]:
    """Keys as a console of some years has them; a sample of their secrets is written down."""
    created_at = datetime(2024, 1, 1)
    for made in range(count):
        key = secret()
        if made * SAMPLED // count != (made + 1) * SAMPLED // count or count <= SAMPLED:
            sample.write(f"{key}\n")
        yield row(key, account_id, created_at + timedelta(minutes=made))
        if made % CHUNK == 0:
            print(f"\r{made:,} of {count:,} keys", end="", file=sys.stderr, flush=True)
    print(f"\r{count:,} keys in {connection.vendor}          ", file=sys.stderr)


def insert(made: Iterator[Row]) -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET TIME ZONE 'UTC'")
            with cursor.copy(f"COPY apikeys_apikey ({COLUMNS}) FROM STDIN") as copy:
                for values in made:
                    copy.write_row(values)
            return
        cursor.execute("PRAGMA synchronous = OFF")
        cursor.execute("PRAGMA cache_size = -1000000")
        marks = ", ".join(["%s"] * len(COLUMNS.split()))
        with transaction.atomic():
            while chunk := list(itertools.islice(made, CHUNK)):
                cursor.executemany(f"INSERT INTO apikeys_apikey ({COLUMNS}) VALUES ({marks})", chunk)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int)
    parser.add_argument("folder", type=Path)
    words = parser.parse_args()
    django.setup()
    call_command("migrate", verbosity=0)
    from knox.models import AuthToken  # once Django is set up
    from rest_framework_api_key.models import APIKey

    from console.models import User

    account = User.objects.create(username="root", date_joined=datetime.now(UTC))
    with (words.folder / "keys").open("w") as sample:
        insert(rows(words.count, account.pk, sample))
    peers = {
        "api-key": [APIKey.objects.create_key(name="bench")[1] for _ in range(3)],
        "knox": [AuthToken.objects.create(account)[1] for _ in range(3)],
    }
    for name, keys in peers.items():
        (words.folder / name).write_text("".join(f"{key}\n" for key in keys))
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE" if connection.vendor == "postgresql" else "ANALYZE")


if __name__ == "__main__":
    main()
