"""The process that adds counted calls to the database."""

import logging
import os
import signal
import threading
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import DatabaseError, connection

from apikeys.fold import fold_all

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Adds what the gate's workers on this machine have counted to the database, every few seconds."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="only what is there now")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["once"]:
            self.stdout.write(f"{fold_all()} files folded")
            return
        os.nice(10)  # calls come first; what is counted can wait
        stop = threading.Event()
        for sign in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sign, lambda *_: stop.set())
        stopped = False
        while not stopped:
            stopped = stop.wait(settings.METERING_SECONDS)  # and once more, when stopped
            try:
                fold_all()
            except DatabaseError as error:
                logger.warning("Calls wait to be counted, the database cannot be written: %s", error)
                connection.close()
