"""The supervisor and its servers, which run for as long as this process keeps its end of the socket open."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from types import FrameType

from console.environment import Environment
from console.supervisor import READY, STOP_SECONDS

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Servers:
    def __init__(self, found: Environment, lock: int) -> None:
        """`lock` is held until the supervisor ends."""
        self.line, theirs = socket.socketpair()
        self.lines = self.line.makefile("r")
        self.groups: list[int] = []
        self.stopping = False
        for signum in SIGNALS:
            if signal.getsignal(signum) != signal.SIG_IGN:
                signal.signal(signum, self.stop)
        command = [sys.executable, "-m", "console.supervisor", str(found.port), str(found.gate_port)]
        self.supervisor = subprocess.Popen(command, stdin=theirs.fileno(), pass_fds=[lock], start_new_session=True)
        theirs.close()

    def stop(self, signum: int, frame: FrameType | None) -> None:
        """The first signal closes the socket; later ones change nothing."""
        self.stopping = True
        with suppress(OSError):  # closed meanwhile
            self.line.shutdown(socket.SHUT_RDWR)

    def serving(self) -> bool:
        """Wait until the servers answer; False where they end before."""
        for line in map(str.strip, self.lines):
            if line == READY:
                return True
            self.groups.append(int(line))
        return False

    def wait(self) -> int:
        """Wait, and return the exit status: 0 after a signal, 1 after a server that ended unexpectedly."""
        self.lines.read()
        self.line.close()
        try:
            self.supervisor.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.supervisor.kill()
        if (status := self.supervisor.wait()) < 0:
            for group in self.groups:
                with suppress(ProcessLookupError):
                    os.killpg(group, signal.SIGKILL)
        if self.stopping:
            return 0
        if status != 1:  # with 1, it has printed which server
            print(f"The supervisor ended unexpectedly (status {status}).", file=sys.stderr)
        return 1
