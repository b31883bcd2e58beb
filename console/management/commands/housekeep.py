"""The process that sends email and deletes expired sessions."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from console.background import repeat
from console.ledger.budget import close_ended
from console.outbox import send_due
from console.security import report_unfinished_log_ons
from console.sessions.store import SessionStore

SECONDS = 5


class Command(BaseCommand):
    help = "Sends waiting email and deletes expired sessions, every few seconds. One process is enough."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="only what is due now")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["once"]:
            self.stdout.write(f"{housekeep()} emails sent")
            return
        repeat(housekeep, SECONDS, "Email waits: the database cannot be reached")


def housekeep() -> int:
    """Returns how many emails were sent."""
    report_unfinished_log_ons()
    SessionStore.clear_expired()
    close_ended()
    return send_due()
