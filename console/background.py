"""Work that a background process repeats."""

import logging
import os
import select
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from django.db import Error, connection

logger = logging.getLogger(__name__)

STOP_SECONDS = 8
Work = Callable[[], object]


class Stop:
    """An event that a signal handler can set at any moment. threading.Event has a lock, for which a handler waits
    forever if it interrupts the thread that holds it."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def set(self) -> None:
        os.write(self.writer, b"x")

    def wait(self, seconds: float) -> bool:
        """Whether it is set, at the latest after so many seconds."""
        return bool(select.select([self.reader], [], [], seconds)[0])


def repeat(work: Work, seconds: float, failed: str, *others: Work) -> None:
    """Do `work` every `seconds` until SIGTERM or SIGINT, and then once more; each of `others` likewise, in a thread of
    its own, so that none delays another. While the database is unavailable, `failed` is logged and the work retried."""
    stop = Stop()

    def end(*args: object) -> None:
        signal.alarm(STOP_SECONDS)  # ends the process even if it still waits
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    with ThreadPoolExecutor(len(others) or 1) as pool:
        running = [pool.submit(repeat_until, other, seconds, failed, stop) for other in others]
        repeat_until(work, seconds, failed, stop)
    for future in running:
        future.result()  # raises what ended it


def repeat_until(work: Work, seconds: float, failed: str, stop: Stop) -> None:
    try:
        stopped = False
        while not stopped:
            stopped = stop.wait(seconds)
            try:
                work()
            except Error as error:
                logger.warning("%s: %s", failed, error)
            finally:
                connection.close()  # a new connection shows soonest that the database does not answer
    finally:
        stop.set()  # if one fails, all end
