"""Work that a process of its own repeats."""

import logging
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from django.db import Error, connection

logger = logging.getLogger(__name__)

STOP_SECONDS = 8


Work = Callable[[], object]


def repeat(work: Work, seconds: float, failed: str, *beside: Work) -> None:
    """Do `work` every so many seconds until SIGTERM or SIGINT, and then once more; each work of `beside` likewise in a
    thread of its own, so that none holds up another. While the database cannot be used, `failed` is logged and the work
    tried again."""
    stop = threading.Event()

    def end(*args: object) -> None:
        stop.set()
        signal.alarm(STOP_SECONDS)  # ends the process, whatever it waits for by then

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    with ThreadPoolExecutor(len(beside) or 1) as pool:
        others = [pool.submit(keep_on, other, seconds, failed, stop) for other in beside]
        keep_on(work, seconds, failed, stop)
    for other in others:
        other.result()  # raises what ended it


def keep_on(work: Work, seconds: float, failed: str, stop: threading.Event) -> None:
    try:
        stopped = False
        while not stopped:
            stopped = stop.wait(seconds)
            try:
                work()
            except Error as error:
                logger.warning("%s: %s", failed, error)
            finally:
                connection.close()  # on a new one it is known soonest that a database does not answer
    finally:
        stop.set()  # where one work fails, all end
