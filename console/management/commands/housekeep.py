"""The process that sends mail and clears away ended sessions."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from console.background import repeat
from console.outbox import send_due
from console.sessions.store import SessionStore

SECONDS = 5


class Command(BaseCommand):
    help = "Sends the mail that waits and clears away ended sessions, every few seconds. One process is enough."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="only what is due now")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["once"]:
            self.stdout.write(f"{keep_house()} mails sent")
            return
        repeat(keep_house, SECONDS, "Mail waits, the database cannot be asked")


def keep_house() -> int:
    SessionStore.clear_expired()
    return send_due()
