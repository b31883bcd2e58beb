"""Prove the ledger."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from console.ledger import models as ledger
from console.models import User


class Command(BaseCommand):
    help = (
        "Proves that no row of the ledger was changed, moved or taken out: of every account in the database, or of one "
        "in an unfiltered export (no database is asked then). Keep the last hash that it prints elsewhere: with --head "
        "it shows later that no row was cut off the end."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", nargs="?", type=Path, help="a CSV file of the Activity page")
        parser.add_argument("--account", help="of this account alone")
        parser.add_argument("--head", help="a hash that was the last one once, and has to be in the ledger still")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["file"]:
            try:
                with options["file"].open(newline="") as file:
                    self.verify(str(options["file"]), ledger.rows_in(file), options["head"])
            except (OSError, UnicodeDecodeError) as error:
                raise CommandError(f"Cannot read {options['file']}: {error}") from error
            return
        accounts = User.objects.filter(account=None).order_by("username")
        if options["account"]:
            accounts = accounts.filter(username=options["account"])
        if not accounts:
            raise CommandError("There is no such root account.")
        if options["head"] and len(accounts) > 1:
            raise CommandError("--head needs --account: each account has a chain of its own.")
        for account in accounts:
            self.verify(f"account {account}", ledger.rows_of(account), options["head"])

    def verify(self, name: str, rows: Any, head: str | None) -> None:
        seen = False

        def watched() -> Any:
            nonlocal seen
            for cells, found in rows:
                seen = seen or found.hex() == head
                yield cells, found

        try:
            count, last = ledger.verify(watched())
            if head and not seen:
                raise ledger.Broken(f"no row has the hash {head}: rows were cut off the end")
        except ledger.Broken as broken:
            raise CommandError(f"{name}: {broken}") from broken
        self.stdout.write(f"{name}: {count} rows, last hash {last.hex()}")
