"""Restore a backup of the database."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from console.management.backups import BackupError, restore


class Command(BaseCommand):
    help = (
        "Restores a file that `manage.py backup` wrote, migrates it to this version and verifies it. SQLite's file of "
        "before stays beside it; with PostgreSQL, the database has to be empty. Stop everything before."
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
            self.stdout.write(f"API keys that had been deleted since, and are deleted in it again: {again}.")
        else:
            self.stdout.write(
                f"There is no {settings.DELETED_KEYS_FILE}: API keys that were deleted since are active again. "
                "Put a copy of that file in place before you start, or delete them again."
            )
