"""Work that processes of their own do again and again."""

import logging
import signal
import threading
from collections.abc import Callable

from django.db import DatabaseError, connection

logger = logging.getLogger(__name__)


def repeat(work: Callable[[], object], seconds: float, failed: str) -> None:
    """Do `work` every so many seconds until SIGTERM or SIGINT, and then once more. While the database cannot be used
    that is logged as `failed`, and tried again."""
    stop = threading.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda *_: stop.set())
    stopped = False
    while not stopped:
        stopped = stop.wait(seconds)
        try:
            work()
        except DatabaseError as error:
            logger.warning("%s: %s", failed, error)
            connection.close()
