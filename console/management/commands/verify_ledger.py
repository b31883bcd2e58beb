"""Verify the ledger."""

from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from console.accounts import User
from console.ledger.chain import BrokenChain, Verified, verify
from console.ledger.models import Entry
from console.ledger.verify import hash_value, verify_file


class Command(BaseCommand):
    help = (
        "Verifies that no row of the ledger was changed, moved, or removed: for every account in the database, or for "
        "one in an unfiltered export (which python -m console.ledger.verify does without an installation). "
        "Store the last hash that it prints elsewhere: with --head, it proves later that no row was cut off the end."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", nargs="?", type=Path, help="a CSV export of the Activity page")
        parser.add_argument("--account", help="verify only this account")
        parser.add_argument("--head", type=hash_value, help="an earlier last hash, which must still be in the ledger")

    def handle(self, *args: Any, **options: Any) -> None:
        file, head = options["file"], options["head"]
        if file:
            self.verify(str(file), lambda: verify_file(file, head))
            return
        accounts = [*User.objects.filter(account=None).order_by("username")]
        if options["account"]:
            named = User.objects.named(options["account"])
            accounts = [account for account in accounts if account == named]
        if not accounts:
            raise CommandError("There is no such root account.")
        if head and len(accounts) > 1:
            raise CommandError("--head needs --account: each account has a chain of its own.")
        for account in accounts:
            entries = Entry.objects.filter(account=account)
            self.verify(f"account {account}", lambda entries=entries: verify(entries.rows(), head))  # type: ignore[misc]

    def verify(self, name: str, verification: Callable[[], Verified]) -> None:
        try:
            verified = verification()
        except BrokenChain as broken:
            raise CommandError(f"{name}: {broken}") from broken
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"Cannot read {name}: {error}") from error
        self.stdout.write(f"{name}: {verified.rows} rows, last hash {verified.head.hex()}")
