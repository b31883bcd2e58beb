"""The database refuses to change or delete rows of the ledgers, whoever asks. Installed after each `migrate`: SQLite
drops a table's triggers where a migration remakes it."""

from collections.abc import Iterator
from typing import Any

from django.db import connections

TABLES = {  # and what makes a row the same as one that is there
    "console_entry": "account_id = NEW.account_id AND number = NEW.number",
    "console_installationentry": "number = NEW.number",
}
REFUSAL = "the ledger is append-only"


def sqlite(table: str) -> Iterator[str]:
    # An INSERT OR REPLACE deletes rows without asking the trigger of deletions.
    taken = f"SELECT 1 FROM {table} WHERE id = NEW.id OR ({TABLES[table]})"
    for act in (f"UPDATE ON {table}", f"DELETE ON {table}", f"INSERT ON {table} WHEN EXISTS ({taken})"):
        yield f"""CREATE TRIGGER IF NOT EXISTS {table}_no_{act.split()[0].lower()} BEFORE {act}
        BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END"""


def postgresql(table: str) -> Iterator[str]:
    yield f"""CREATE OR REPLACE FUNCTION {table}_refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION '{REFUSAL}' USING ERRCODE = 'integrity_constraint_violation'; END $$"""
    yield f"""CREATE OR REPLACE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION {table}_refuse()"""


def install(using: str, **kwargs: Any) -> None:
    """A receiver of `post_migrate`."""
    connection = connections[using]
    statements = sqlite if connection.vendor == "sqlite" else postgresql
    with connection.cursor() as cursor:
        for table in TABLES.keys() & {*connection.introspection.table_names(cursor)}:
            for statement in statements(table):
                cursor.execute(statement)
