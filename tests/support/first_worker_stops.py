"""The gate's configuration of gunicorn, with a first worker that is told to stop at the moment of its fork."""

import os
import signal

from apikeys.gate.gunicorn_conf import *  # noqa: F403
from console.settings import DATA_DIR


def stop_the_first() -> None:
    if not (DATA_DIR / "first").exists():
        (DATA_DIR / "first").write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGTERM)


os.register_at_fork(after_in_child=stop_the_first)
