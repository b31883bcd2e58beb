"""The process of a gate's machine that adds counted calls to the database, and to a file what is deleted there."""

import os
from argparse import ArgumentParser
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import Error

from apikeys.keys.deletions import Deletions
from apikeys.metering.fold import fold_all
from apikeys.usage.store import UsageStore
from console.background import repeat


class Command(BaseCommand):
    help = (
        "Adds the calls that the gate on this machine has counted to the database, and keys that were deleted in the "
        "database to the file of deleted keys, every few seconds."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="add the finished files, and exit")

    def handle(self, *args: Any, **options: Any) -> None:
        deletions, usage = Deletions(), UsageStore()

        def work() -> int:
            deletions.complete()
            return fold_all(settings.METERING_DIR, usage)

        if options["once"]:
            self.stdout.write(f"{work()} files folded")
            return
        os.nice(10)  # answering calls has priority
        with suppress(Error):  # it is tried again
            deletions.complete()  # the gate misses the file until then
        repeat(work, settings.METERING_SECONDS, "Counted calls cannot be added to the database yet")
