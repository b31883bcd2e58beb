"""What a process knows of a PostgreSQL that does not answer: one thread goes on asking, and all others fail at once
instead of waiting too."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident

import psycopg
from psycopg.errors import ConnectionTimeout

RETRY_SECONDS = 1.0


class Silent(psycopg.OperationalError):
    """The server has not answered in time, or did not a moment ago."""

    def __init__(self) -> None:
        super().__init__("PostgreSQL does not answer.")


class Silence:
    def __init__(self) -> None:
        self.until = 0.0  # when the server may be asked again; 0 while it answers
        self.asking = 0  # the thread that does

    @contextmanager
    def asked(self, seconds: float) -> Iterator[None]:
        """Around each wait for the server, which ends within so many seconds. Raises Silent where another wait was in
        vain a moment ago."""
        if self.until and self.asking != get_ident():
            now = time.monotonic()
            if now < self.until:
                raise Silent
            self.until, self.asking = now + seconds + RETRY_SECONDS, get_ident()
        try:
            yield
        except (Silent, ConnectionTimeout):
            self.until, self.asking = time.monotonic() + RETRY_SECONDS, 0
            raise
        except psycopg.Error:
            self.until = 0.0
            raise
        self.until = 0.0
