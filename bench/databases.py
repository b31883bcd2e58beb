"""Databases for the benchmarks, filled with keys."""

import os
import secrets
import sqlite3
import subprocess
import sys
import uuid
from pathlib import Path

import psycopg

from apikeys.keys import format as keyformat
from console.vault import Vault, new_key
from tests.support.servers import ROOT

SAMPLED = 100_000  # of a million keys, those that are asked for


def environment_of(folder: Path) -> dict[str, str]:
    """A new installation's, on SQLite in that folder."""
    folder.mkdir()
    return {
        "CONSOLE_DATA_DIR": str(folder),
        "SECRET_KEY": secrets.token_urlsafe(48),
        "VAULT_KEYS": new_key(),
        "DIGEST_KEYS": new_key(),
    }


def postgres_database(url: str, name: str) -> tuple[str, int]:
    """The URL of a new database, and the id of the server's process."""
    with psycopg.connect(url, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}".encode())
        (data,) = server.execute("SHOW data_directory").fetchone() or ("",)
    return url.rpartition("/")[0] + f"/{name}", int(Path(data, "postmaster.pid").read_text().split()[0])


def fill(environment: dict[str, str], count: int, keys: Path) -> None:
    """Put `count` keys of one account into that database, and those that will be sent into a file."""
    manage = [sys.executable, "manage.py"]
    subprocess.run([*manage, "migrate", "-v0"], cwd=ROOT, env=os.environ | environment, check=True)
    subprocess.run(
        [*manage, "createroot", "bench"], cwd=ROOT, env=os.environ | environment, check=True, stdout=subprocess.DEVNULL
    )
    vault = Vault(environment["VAULT_KEYS"], environment["DIGEST_KEYS"])
    sampled = [keyformat.new_secret() for _ in range(min(count, SAMPLED))]
    keys.write_text("\n".join(sampled))
    digests = [vault.digests("api-key", secret)[0] for secret in sampled]
    digests += [os.urandom(32) for _ in range(count - len(digests))]
    sealed, now = os.urandom(71), "2026-01-01 00:00:00+00:00"
    columns = "id, account_id, hint, digest, sealed_secret, request_id, created_at, account_disabled"
    if "DATABASE_URL" in environment:
        with psycopg.connect(environment["DATABASE_URL"]) as server:
            account = server.execute("SELECT id FROM console_user").fetchone()[0]  # type: ignore[index]
            with server.cursor().copy(f"COPY apikeys_apikey ({columns}) FROM STDIN".encode()) as copy:
                for digest in digests:
                    copy.write_row((uuid.uuid4(), account, "bench", digest, sealed, uuid.uuid4(), now, False))
        with psycopg.connect(environment["DATABASE_URL"], autocommit=True) as server:
            server.execute("VACUUM ANALYZE apikeys_apikey")
        return
    with sqlite3.connect(Path(environment["CONSOLE_DATA_DIR"]) / "console.sqlite3") as file:
        rows = ((uuid.uuid4().hex, 1, "bench", digest, sealed, uuid.uuid4().hex, now[:19], False) for digest in digests)
        file.executemany(f"INSERT INTO apikeys_apikey ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        file.execute("ANALYZE")
