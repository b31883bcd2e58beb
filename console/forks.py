"""Signals at gunicorn's forks.

A worker is forked with its master's handlers, which drop signals until it has its own: told to stop at that moment, it
would run until graceful_timeout.
"""

import os
import signal
from typing import Any

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def hold_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def take_signals() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


os.register_at_fork(before=hold_signals, after_in_parent=take_signals)


def post_worker_init(worker: Any) -> None:
    """gunicorn's hook."""
    take_signals()
