"""What somebody with the database's own rights does first, to change a ledger."""

from django.db import connection

from console.ledger.triggers import TABLE


def drop_triggers() -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            for act in ("update", "delete", "insert"):
                cursor.execute(f"DROP TRIGGER IF EXISTS {TABLE}_no_{act}")
        else:
            cursor.execute(f"DROP TRIGGER IF EXISTS {TABLE}_no_change ON {TABLE}")
