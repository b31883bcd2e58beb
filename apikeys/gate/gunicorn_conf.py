"""gunicorn for the gate: as many workers as wanted, each a loop that answers many connections."""

import os
import sqlite3
from typing import Any

import psycopg

from apikeys.gate import balance
from apikeys.gate.main import NEEDS
from apikeys.gate.recorded import recorded
from console import environment, logs
from console.forks import post_worker_init  # noqa: F401  (gunicorn's hook)
from console.vault import Digests, VaultError, check

HOST = "127.0.0.1"
os.umask(0o077)  # whatever it writes is for its user alone
ENVIRONMENT = environment.read_or_exit(NEEDS)
workers = ENVIRONMENT.gate_workers
worker_class = "apikeys.gate.worker.GateWorker"
graceful_timeout = 20
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None
control_socket_disable = True
logconfig_dict = logs.CONFIG


def on_starting(server: Any) -> None:
    """Listen for who scrapes the metrics too. Refuse to start with digest keys that are not this database's."""
    if ENVIRONMENT.gate_metrics_port:
        address = f"{HOST}:{ENVIRONMENT.gate_metrics_port}"
        server.cfg.set("bind", [*server.cfg.settings["bind"].get(), address])
    try:
        check(recorded(ENVIRONMENT.for_gate), Digests(ENVIRONMENT.digest_keys).fingerprints)
    except (OSError, sqlite3.Error, psycopg.Error) as error:
        server.log.warning("The digest keys were not checked: the database is unavailable: %s", error)
    except VaultError as error:
        raise SystemExit(str(error)) from error


def child_exit(server: Any, worker: Any) -> None:
    """A worker that was killed leaves its connections to the others."""
    balance.leave(worker.age)
