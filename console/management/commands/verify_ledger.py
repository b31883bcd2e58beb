"""Verify the ledger."""

from argparse import ArgumentParser
from collections.abc import Callable, Set
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from console.accounts import User
from console.ledger import heads
from console.ledger.chain import BrokenChain, Verified, verify
from console.ledger.models import INSTALLATION, ledgers
from console.ledger.verify import HEAD_HELP, hash_value, verify_file


class Command(BaseCommand):
    help = (
        "Verifies that no row of the ledger was changed, moved, or removed: for every account in the database and for "
        "the installation, or for one in an unfiltered export (which python -m console.ledger.verify does without an "
        "installation). That no row was cut off the end is proved by what is kept elsewhere: a file of signed heads "
        "(required where LEDGER_HEADS_FILE is set), or the hash in an email or a line of the log."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        file, key = settings.LEDGER_HEADS_FILE, settings.LEDGER_HEADS_KEY.with_suffix(".pub")
        parser.add_argument("file", nargs="?", type=Path, help="a CSV export of the Activity page")
        parser.add_argument("--account", help="verify only this account")
        parser.add_argument("--installation", action="store_true", help="verify only what operators did")
        parser.add_argument("--head", type=hash_value, action="append", default=[], help=HEAD_HELP)
        parser.add_argument("--heads", type=Path, default=file, help="a copy of the file that LEDGER_HEADS_FILE names")
        parser.add_argument("--public-key", type=Path, default=key, help="a copy of the key that verifies it")

    def handle(self, *args: Any, **options: Any) -> None:
        file, head = options["file"], options["head"]
        if file:
            self.verify(str(file), lambda: verify_file(file, head))
            return
        found = {ledger.key: ledger for ledger in ledgers()}
        kept = self.kept(options["heads"], options["public_key"], found.keys()) if options["heads"] else {}
        if options["account"]:
            named = User.objects.named(options["account"])
            found = {key: ledger for key, ledger in found.items() if named and key == str(named.pk)}
        elif options["installation"]:
            found = {INSTALLATION: found[INSTALLATION]}
        if not found:
            raise CommandError("There is no such root account.")
        if head and len(found) > 1:
            raise CommandError("--head needs --account or --installation: each has a chain of its own.")
        for key, ledger in found.items():
            rows, hashes = ledger.rows.rows(), {*head, *kept.get(key, ())}
            self.verify(ledger.name, lambda rows=rows, hashes=hashes: verify(rows, hashes))  # type: ignore[misc]

    def kept(self, file: Path, key: Path, ledgers: Set[str]) -> dict[str, set[bytes]]:
        """The hashes in a file of signed heads, by account."""
        try:
            found = heads.read_file(file, heads.public_key(key))
        except (BrokenChain, OSError, ValueError) as error:
            raise CommandError(f"{file}: {error}") from error
        self.stdout.write(f"{file}: {found.lines} lines, the last of {found.at}")
        if missing := found.kept.keys() - ledgers:
            raise CommandError(f"{file}: accounts that are no longer in the database: {', '.join(sorted(missing))}")
        return found.kept

    def verify(self, name: str, verification: Callable[[], Verified]) -> None:
        try:
            verified = verification()
        except BrokenChain as broken:
            raise CommandError(f"{name}: {broken}") from broken
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"Cannot read {name}: {error}") from error
        self.stdout.write(f"{name}: {verified.rows} rows, last hash {verified.head.hex()}")
