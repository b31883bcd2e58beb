"""Restore a backup of the database."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from console.management.backups import BackupError, restore


class Command(BaseCommand):
    help = (
        "Restores a backup written by `manage.py backup`, migrates it to this version and verifies it. The previous "
        "SQLite file is kept beside it; a PostgreSQL database must be empty. Stop all programs first."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, help="the backup")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            content, again = restore(options["file"].absolute())
        except BackupError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"Restored: {content}. Verified.")
        if settings.DELETED_KEYS_FILE.exists():
            self.stdout.write(f"Keys that were deleted after the backup, and are deleted again: {again}.")
        else:
            self.stdout.write(
                f"{settings.DELETED_KEYS_FILE} does not exist: keys that were deleted after the backup are active "
                "again. Put a copy of that file in place before you start, or delete them again."
            )
