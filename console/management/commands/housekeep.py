"""The process that sends email, deletes expired sessions and signs the ledger's heads."""

import logging
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.utils import timezone

from console import rate_limits
from console.background import repeat
from console.ledger import heads
from console.ledger.chain import BrokenChain
from console.ledger.models import last_rows
from console.ledger.record import close_budgets
from console.outbox import forget_given_up, send_due
from console.security import report_unfinished_log_ons
from console.sessions.store import SessionStore

logger = logging.getLogger(__name__)

SECONDS = 5
HEADS_SECONDS = 60 * 60


class Command(BaseCommand):
    help = (
        "Sends waiting email, deletes expired sessions and appends to LEDGER_HEADS_FILE, every few seconds or when it "
        "is time. One process is enough."
    )

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
    now = timezone.now()
    report_unfinished_log_ons(now)
    SessionStore.clear_expired(now)
    rate_limits.clean_up()
    forget_given_up()
    close_budgets()
    if settings.LEDGER_HEADS_FILE:
        append_heads(settings.LEDGER_HEADS_FILE)


def append_heads(file: Path) -> None:
    """Once an hour. A file that cannot be written holds nothing else up."""
    try:
        if not file.exists() or not 0 <= time.time() - file.stat().st_mtime < HEADS_SECONDS:
            heads.append(file, heads.signing_key(settings.LEDGER_HEADS_KEY), timezone.now(), last_rows())
    except (BrokenChain, OSError, ValueError) as error:
        logger.error("LEDGER_HEADS_FILE: nothing can be appended to %s: %s", file, error)
