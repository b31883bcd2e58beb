"""gunicorn for the gate: as many workers as wanted, each a loop that answers many connections."""

import os
from typing import Any

from apikeys.gate import balance
from console import environment, logs
from console.gunicorn_conf import on_starting, post_worker_init  # noqa: F401  (gunicorn's hooks)

ENVIRONMENT = environment.read_or_exit()
workers = ENVIRONMENT.gate_workers
worker_class = "apikeys.gate.worker.GateWorker"
graceful_timeout = 20
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None
control_socket_disable = True
logconfig_dict = logs.CONFIG


def child_exit(server: Any, worker: Any) -> None:
    """A worker that was killed leaves its connections to the others."""
    balance.leave(worker.age)
