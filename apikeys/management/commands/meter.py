"""The process that adds counted calls to the database."""

import os
from argparse import ArgumentParser
from functools import partial
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from apikeys.metering.fold import fold_all
from apikeys.usage.store import UsageStore
from console.background import repeat


class Command(BaseCommand):
    help = "Adds the calls that the gate on this machine has counted to the database, every few seconds."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="add the finished files, and exit")

    def handle(self, *args: Any, **options: Any) -> None:
        fold = partial(fold_all, settings.METERING_DIR, UsageStore())
        if options["once"]:
            self.stdout.write(f"{fold()} files folded")
            return
        os.nice(10)  # answering calls has priority
        repeat(fold, settings.METERING_SECONDS, "Counted calls cannot be added to the database yet")
