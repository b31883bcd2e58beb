"""All that the gate has to be given. apikeys.gate.main makes one for gunicorn; a test makes its own."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from console.proxies import TrustedProxies


@dataclass(frozen=True, slots=True)
class GateConfiguration:
    database: Path | str  # a SQLite file, or a connection string for PostgreSQL (libpq, "Connection Strings")
    digests: Callable[[str, str], list[bytes]]  # console.vault.Digests.digests
    trusted_proxies: TrustedProxies
    deleted_keys_file: Path  # apikeys.keys.tombstones
    metering_dir: Path
    metering_seconds: float  # after which a worker begins a new file of counted calls
    max_connections: int  # of one worker
    metrics_port: int | None = None  # where /metrics alone is answered; None where it is at the port of the gate
