"""Work that a process of its own repeats."""

import logging
import signal
import threading
from collections.abc import Callable

from django.db import Error, connection

logger = logging.getLogger(__name__)

STOP_SECONDS = 8


def repeat(work: Callable[[], object], seconds: float, failed: str) -> None:
    """Do `work` every so many seconds until SIGTERM or SIGINT, and then once more. While the database cannot be used,
    `failed` is logged and the work tried again."""
    stop = threading.Event()

    def end(*args: object) -> None:
        stop.set()
        signal.alarm(STOP_SECONDS)  # ends the process, whatever it waits for by then

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    stopped = False
    while not stopped:
        stopped = stop.wait(seconds)
        try:
            work()
        except Error as error:
            logger.warning("%s: %s", failed, error)
        finally:
            connection.close()  # on a new one it is known soonest that a database does not answer
