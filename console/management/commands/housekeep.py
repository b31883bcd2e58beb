"""The process that sends email and deletes expired sessions."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from console.background import repeat
from console.ledger.budget import close_ended
from console.outbox import send_due
from console.security import correct_attempts, report_unfinished_log_ons
from console.sessions.store import SessionStore

SECONDS = 5


class Command(BaseCommand):
    help = "Sends waiting email and deletes expired sessions, every few seconds. One process is enough."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="only what is due now")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["once"]:
            clean_up()
            self.stdout.write(f"{send_due()} emails sent")
            return
        repeat(clean_up, SECONDS, "Email and expired sessions wait: the database cannot be reached", send_due)


def clean_up() -> None:
    report_unfinished_log_ons()
    SessionStore.clear_expired()
    correct_attempts()
    close_ended()
