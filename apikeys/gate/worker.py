"""A worker class for gunicorn, which starts, watches and restarts the workers: one loop (uvloop) for each.

docs/performance.md has what the other worker classes were measured to cost.
"""

import asyncio
import os
import resource
import signal
import socket
from contextlib import suppress

import uvloop
from gunicorn.workers.base import Worker

from apikeys.gate import balance
from apikeys.gate.app import Gate
from apikeys.gate.call import Handle
from apikeys.gate.http import Connection, Server
from apikeys.gate.metrics import Metrics

RESERVED_FILES = 64  # of those that a worker may open, for other things than connections
OUT_OF_FILES_SECONDS = 1
YIELD_SECONDS = 0.005  # to workers with fewer connections: they need microseconds, on a busy machine a turn of the CPU
DRAIN_IDLE_SECONDS = 0.5
DRAIN_SECONDS = 10


def file_limit() -> int:
    """How many files this process may open, once the limit is raised as far as that is allowed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return 1 << 30 if hard == resource.RLIM_INFINITY else hard


class GateWorker(Worker):  # type: ignore[misc]
    """Its application is a function without arguments that creates the gate (apikeys.gate.main)."""

    def init_signals(self) -> None:
        super().init_signals()
        signal.set_wakeup_fd(-1)  # the loop has its own

    def run(self) -> None:
        uvloop.run(self.serve())

    async def serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.accepting: set[asyncio.Task[None]] = set()
        gate: Gate = self.wsgi()
        max_connections = min(gate.configuration.max_connections, file_limit() - RESERVED_FILES)
        self.share = balance.Share(self.age)
        self.server = Server(gate, Metrics(self.age), self.share, max_connections)
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            self.loop.add_signal_handler(number, stop.set)
        if not self.alive:  # stopped before the handlers were set
            return
        await gate.lookup.open()
        tasks = [self.loop.create_task(self.beat(stop)), self.loop.create_task(self.finish_files())]
        listeners = [listener.sock for listener in self.sockets]
        for listener in listeners:
            listener.setblocking(False)
            self.listen(listener)
        await stop.wait()
        self.server.draining = True
        balance.leave(self.age)
        for listener in listeners:
            self.loop.remove_reader(listener)
            while self.accept(listener):  # connections that wait already would be reset
                pass
            listener.close()
        await self.drain()
        for task in tasks:
            task.cancel()
        gate.close()

    def listen(self, listener: socket.socket) -> None:
        with suppress(ValueError):  # closed meanwhile, because the worker stops
            self.loop.add_reader(listener, self.accept_in_turn, listener)
            self.accept(listener)

    def accept_in_turn(self, listener: socket.socket) -> None:
        """Accept one connection, or let another worker accept it. It is one in each turn of the loop: a worker that
        accepts all that wait leaves the others idle."""
        if self.share.is_ahead():
            self.loop.remove_reader(listener)
            self.loop.call_later(YIELD_SECONDS, self.listen, listener)
        else:
            self.accept(listener)

    def accept(self, listener: socket.socket) -> bool:
        """Whether there was a connection to accept."""
        try:
            caller, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return False  # another worker was faster, or the caller has left
        except OSError:  # out of file descriptors
            self.loop.remove_reader(listener)
            self.loop.call_later(OUT_OF_FILES_SECONDS, self.listen, listener)
            return False
        self.share.has_accepted()
        caller.setblocking(False)
        task = self.loop.create_task(self.connect(caller, self.handler(listener)))
        self.accepting.add(task)
        task.add_done_callback(self.accepting.discard)
        return True

    def handler(self, listener: socket.socket) -> Handle:
        gate, port = self.server.gate, self.server.gate.configuration.metrics_port
        scraped = port is not None and listener.getsockname()[1] == port
        return gate.handle_scrape if scraped else gate.handle

    async def connect(self, caller: socket.socket, handle: Handle) -> None:
        await self.loop.connect_accepted_socket(lambda: Connection(self.server, handle), caller)

    async def beat(self, stop: asyncio.Event) -> None:
        """Once a second: show gunicorn that this worker is alive, and stop if gunicorn is not."""
        while True:
            self.notify()
            if os.getppid() != self.ppid:
                stop.set()
            await asyncio.sleep(1)
            if not self.server.draining:
                self.share.beat()
            self.server.tick()
            self.server.gate.tombstones.look()

    async def finish_files(self) -> None:
        """Let what was counted go to the database."""
        while True:
            await asyncio.sleep(self.server.gate.configuration.metering_seconds)
            self.server.gate.counter.close()

    async def drain(self) -> None:
        """Answer the calls that are on their way, and close the connections."""
        deadline = self.loop.time() + DRAIN_SECONDS
        await asyncio.sleep(DRAIN_IDLE_SECONDS)
        while self.server.connections and self.loop.time() < deadline:
            self.server.close_overdue(idle_seconds=-1)
            await asyncio.sleep(0.01)
