"""Waiting for a condition. The standard library alone: the benchmark's environment has nothing that tests need."""

import time
from collections.abc import Callable


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    """Until `condition()` is true. Fails after that many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain"
        time.sleep(0.02)
