"""The process that sends email and deletes expired sessions."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from console.background import repeat
from console.outbox import send_due
from console.security import correct_attempts
from console.sessions.store import SessionStore

SECONDS = 5


class Command(BaseCommand):
    help = "Sends waiting email and deletes expired sessions, every few seconds. One process is enough."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="process what is due now, and exit")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["once"]:
            clean_up()
            self.stdout.write(f"{send_due()} emails sent")
            return
        repeat(
            clean_up,
            SECONDS,
            "Email and expired sessions will be processed later: the database is unavailable",
            send_due,
        )


def clean_up() -> None:
    SessionStore.clear_expired()
    correct_attempts()
