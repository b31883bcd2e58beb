"""Whether the database is in the form that this version needs."""

from django.db import connection
from django.db.migrations.loader import MigrationLoader

NEWER = "migrated by a newer version"
PENDING = "migrations are not applied"
OURS = {"console", "apikeys"}


def state() -> str:
    """NEWER, PENDING, or "" where all is well. Raises DatabaseError."""
    loader = MigrationLoader(connection)
    known = {*loader.disk_migrations, *(old for new in loader.disk_migrations.values() for old in new.replaces)}
    latest = dict(sorted(loader.disk_migrations))
    for app, name in loader.applied_migrations:
        # Other packages may drop old migrations that they have squashed.
        if (app, name) not in known and (app in OURS or name > latest.get(app, name)):
            return NEWER
    return PENDING if set(loader.graph.nodes) - set(loader.applied_migrations) else ""
