"""One start at a time has a data folder."""

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

from console.start import StartError
from console.supervisor import STOP_SECONDS


def take(folder: Path, what: str) -> int:
    """Lock the folder, and return the file descriptor that holds it until every process with it has ended. Raises
    StartError that names the process that holds it already.

    `what` tells the next start what this one does: "serves http://…". The servers of a start that was killed are about
    to end, and are waited for.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, mode=0o600)
    deadline = time.monotonic() + STOP_SECONDS
    while not locked(file):
        holder = os.pread(file, 1000, 0).decode().strip()
        if is_alive(holder.partition(",")[0]) or time.monotonic() > deadline:
            raise StartError(
                f"{folder} is in use by process {holder}. Stop that process, or set CONSOLE_DATA_DIR to another folder."
            )
        time.sleep(0.05)
    os.ftruncate(file, 0)
    os.pwrite(file, f"{os.getpid()}, which {what}\n".encode(), 0)
    return file


def locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_alive(pid: str) -> bool:
    try:
        with suppress(PermissionError):  # it is alive, and another user's
            os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):  # or the holder has not written its id yet
        return False
    return True
