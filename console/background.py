"""Work that a process of its own repeats."""

import logging
import signal
import threading
from collections.abc import Callable

from django.db import DatabaseError, connection

logger = logging.getLogger(__name__)


def repeat(work: Callable[[], object], seconds: float, failed: str) -> None:
    """Do `work` every so many seconds until SIGTERM or SIGINT, and then once more. While the database cannot be used,
    `failed` is logged and the work tried again."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    stopped = False
    while not stopped:
        stopped = stop.wait(seconds)
        try:
            work()
        except DatabaseError as error:
            logger.warning("%s: %s", failed, error)
            connection.close()
