"""Delete leaked keys."""

import sys
from argparse import ArgumentParser, FileType
from typing import Any

from django.core.management.base import BaseCommand

from apikeys.leaks.report import revoke


class Command(BaseCommand):
    help = "Deletes leaked keys, one a line in a file or on standard input; their owners are told."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", nargs="?", type=FileType(), default=sys.stdin)

    def handle(self, *args: Any, **options: Any) -> None:
        secrets = options["file"].read().split()
        deleted = revoke(secrets, "the command line")
        self.stdout.write(f"{deleted} of {len(secrets)} deleted; the others are not known here or were deleted before.")
