"""The gate's configuration of gunicorn, with a first worker that is sent SIGTERM at the moment of its fork."""

import os
import signal
from pathlib import Path

from apikeys.gate.gunicorn_conf import *  # noqa: F403

FIRST = Path(os.environ["CONSOLE_DATA_DIR"]) / "first"


def stop_the_first() -> None:
    if not FIRST.exists():
        FIRST.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGTERM)


os.register_at_fork(after_in_child=stop_the_first)
