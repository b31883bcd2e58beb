"""Back up the database."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from console.management.backups import BackupError, back_up
from console.vault_keys import VaultKey


class Command(BaseCommand):
    help = (
        "Backs up the database to a file while everything runs, then reads the file back and verifies it. "
        "The file does not contain the keys that it needs (VAULT_KEYS, DIGEST_KEYS)."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, help="the file to write, which must not exist")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            content = back_up(options["file"].absolute())
        except BackupError as error:
            raise CommandError(str(error)) from error
        needed = ", ".join(f"{key.name} {key.version}" for key in VaultKey.objects.order_by("name", "version"))
        self.stdout.write(f"{options['file']}: {content}. Verified.")
        self.stdout.write(f"It does not contain the keys that it needs: {needed}. Store them separately.")
