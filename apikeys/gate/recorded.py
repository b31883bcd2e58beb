"""With which digest keys a database was written, for a gate that starts."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from apikeys.gate.postgres import connect
from console.vault import Fingerprints

NAME = "DIGEST_KEYS"
QUERY = f"SELECT version, fingerprint FROM console_vaultkey WHERE name = '{NAME}'"


def recorded(database: Path | str) -> Fingerprints:
    """Raises OSError, sqlite3.Error or psycopg.Error where the database cannot be queried."""
    rows: list[Any] = []
    if isinstance(database, Path):
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as sqlite:
            rows += sqlite.execute(QUERY)
    else:
        connect(database, lambda postgres: rows.extend(postgres.execute(QUERY.encode()))).close()
    return {(NAME, version): bytes(fingerprint) for version, fingerprint in rows}
