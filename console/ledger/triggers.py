"""The database refuses to change or delete rows of the ledger, whoever asks. Installed after each `migrate`: SQLite
drops a table's triggers where a migration remakes it."""

from typing import Any

from django.db import connections

TABLE = "console_entry"
REFUSAL = "the ledger is append-only"
# An INSERT OR REPLACE deletes rows without asking the trigger of deletions.
TAKEN = f"SELECT 1 FROM {TABLE} WHERE id = NEW.id OR (account_id = NEW.account_id AND number = NEW.number)"

SQLITE = [
    f"""CREATE TRIGGER IF NOT EXISTS {TABLE}_no_{act.split()[0].lower()} BEFORE {act}
    BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END"""
    for act in (f"UPDATE ON {TABLE}", f"DELETE ON {TABLE}", f"INSERT ON {TABLE} WHEN EXISTS ({TAKEN})")
]
POSTGRESQL = [
    f"""CREATE OR REPLACE FUNCTION {TABLE}_refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION '{REFUSAL}' USING ERRCODE = 'integrity_constraint_violation'; END $$""",
    f"""CREATE OR REPLACE TRIGGER {TABLE}_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {TABLE}
    FOR EACH STATEMENT EXECUTE FUNCTION {TABLE}_refuse()""",
]


def install(using: str, **kwargs: Any) -> None:
    """A receiver of `post_migrate`."""
    connection = connections[using]
    with connection.cursor() as cursor:
        if TABLE in connection.introspection.table_names(cursor):
            for statement in SQLITE if connection.vendor == "sqlite" else POSTGRESQL:
                cursor.execute(statement)
