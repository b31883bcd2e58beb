"""The process that adds counted calls to the database."""

import os
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from apikeys.metering.fold import fold_all
from console.background import repeat


class Command(BaseCommand):
    help = "Adds what the gate's workers on this machine have counted to the database, every few seconds."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="only what is there now")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["once"]:
            self.stdout.write(f"{fold_all()} files folded")
            return
        os.nice(10)  # calls come first; what is counted can wait
        repeat(fold_all, settings.METERING_SECONDS, "Calls wait to be counted, the database cannot be written")
