"""The gate as gunicorn runs it: put together from the settings, and from nothing else."""

from apikeys.gate.app import Gate
from apikeys.gate.configuration import GateConfiguration
from console import settings


def gate() -> Gate:
    """gunicorn's application; a worker calls it once, after the fork."""
    return Gate(
        GateConfiguration(
            database=settings.SQLITE_FILE or settings.postgres_conninfo(settings.DATABASES["default"]),
            digests=settings.VAULT.digests,
            trusted_proxies=settings.TRUSTED_PROXIES,
            metering_dir=settings.METERING_DIR,
            metering_seconds=settings.METERING_SECONDS,
            max_connections=settings.GATE_MAX_CONNECTIONS,
        )
    )
