"""The gate as gunicorn runs it: put together from the environment, and nowhere else."""

from apikeys.gate.app import Gate
from apikeys.gate.configuration import GateConfiguration
from console import environment
from console.vault import Digests

NEEDS = {"DIGEST_KEYS"}


def gate() -> Gate:
    """gunicorn's application; a worker calls it once, after the fork."""
    found = environment.read_or_exit(NEEDS)
    return Gate(
        GateConfiguration(
            database=found.for_gate,
            digests=Digests(found.digest_keys).digests,
            trusted_proxies=found.trusted_proxies,
            deleted_keys_file=found.deleted_keys_file,
            metering_dir=found.metering_dir,
            metering_seconds=found.metering_seconds,
            max_connections=found.gate_max_connections,
            metrics_port=found.gate_metrics_port,
        )
    )
