"""Django's backend for PostgreSQL, with an end to every wait. It is the ENGINE of the settings.

The server ends a statement that takes too long, also where it waits for a lock, and the system gives up a network that
is gone. Neither ends the wait for a server that stands still, or for a proxy that keeps connections and passes nothing
on: that is done here, in between psycopg and its socket.
"""

from typing import Any

import psycopg
from django.db import connections
from django.db.backends.postgresql import base
from django.db.models.signals import pre_migrate
from psycopg.abc import RV, PQGen
from psycopg.errors import _WaitTimeout

from console.postgres.silence import Silence, Silent

CONNECT_SECONDS = 3
IDLE_SECONDS = 30  # within a transaction, by a program that has stopped or vanished and holds locks
MARGIN_SECONDS = 0.5  # for the server to say first that a statement takes too long
NETWORK = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 5000}
silence = Silence()


class Connection(psycopg.Connection[Any]):
    """Closes itself where the server does not answer within `seconds`."""

    seconds: float | None = None

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        if self.seconds is None:
            return super().wait(gen, interval, timeout)
        with silence.asked(self.seconds):
            try:
                return super().wait(gen, interval, self.seconds)
            except _WaitTimeout:
                self.close()
                raise Silent from None


class DatabaseWrapper(base.DatabaseWrapper):
    seconds: float = 30  # that a statement may take

    def get_connection_params(self) -> dict[str, Any]:
        """What the installation sets itself comes after, and wins."""
        given = super().get_connection_params()
        limits = {"statement_timeout": self.seconds, "idle_in_transaction_session_timeout": IDLE_SECONDS}
        options = [f"-c {name}={seconds * 1000:.0f}" for name, seconds in limits.items()]
        options.append(given.get("options", ""))
        return {"connect_timeout": CONNECT_SECONDS, **NETWORK, **given, "options": " ".join(options)}

    def get_new_connection(self, conn_params: dict[str, Any]) -> Connection:
        with silence.asked(CONNECT_SECONDS):
            connection = Connection.connect(**conn_params)
        connection.seconds = self.seconds + MARGIN_SECONDS
        return connection

    def lift_limits(self) -> None:
        """For statements that may take hours, on the connection at hand."""
        with self.cursor() as cursor:
            cursor.execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")
        self.connection.seconds = None


def before_migrations(using: str, **kwargs: object) -> None:
    connection = connections[using]
    assert isinstance(connection, DatabaseWrapper)  # there is one database, and this module is loaded for it
    connection.lift_limits()


pre_migrate.connect(before_migrations)
