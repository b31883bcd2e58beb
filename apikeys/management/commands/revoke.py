"""Revoke leaked keys."""

import sys
from argparse import ArgumentParser, FileType
from typing import Any

from django.core.management.base import BaseCommand

from apikeys.leaks.revoke import Leak, revoke_leaked
from console.ledger.chain import BYTE_ORDER_MARK


class Command(BaseCommand):
    help = "Deletes leaked keys, given one per line in a file or on standard input, and notifies their owners."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", nargs="?", type=FileType(), default=sys.stdin)

    def handle(self, *args: Any, **options: Any) -> None:
        secrets = options["file"].read().removeprefix(BYTE_ORDER_MARK).split()
        revoked = revoke_leaked(map(Leak, secrets))
        self.stdout.write(f"{revoked} of {len(secrets)} deleted; the others are unknown or were already deleted.")
