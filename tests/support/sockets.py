"""Which process has which connections, as Linux shows it (proc_pid_fd(5), proc_net(5)). The standard library alone."""

import contextlib
import os
import socket
from pathlib import Path

from tests.support.waiting import wait_for

ESTABLISHED = "01"


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def connections(pid: int, port: int) -> int:
    """How many that process has accepted at that port and not closed, over IPv4."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    accepted = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(f":{port:04X}") and row[3] == ESTABLISHED}
    count = 0
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += os.readlink(file) in accepted
    return count


def wait_until_all_accept(port: int, master: int, workers: int) -> None:
    """Until each of that many workers has accepted a connection, and closed it."""

    def accepted() -> bool:
        held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
        pids = children(master)
        return len(pids) == workers and all(connections(pid, port) for pid in pids)

    with contextlib.ExitStack() as held:
        wait_for(accepted)
    wait_for(lambda: not any(connections(pid, port) for pid in children(master)))
