"""What somebody with the database's own rights does first, to change a ledger."""

from django.db import connection

from console.ledger.triggers import TABLES

SQLITE = [f"DROP TRIGGER IF EXISTS {table}_no_{act}" for table in TABLES for act in ("update", "delete", "insert")]
POSTGRESQL = [f"DROP TRIGGER IF EXISTS {table}_no_change ON {table}" for table in TABLES]


def drop_triggers() -> None:
    with connection.cursor() as cursor:
        for statement in SQLITE if connection.vendor == "sqlite" else POSTGRESQL:
            cursor.execute(statement)
