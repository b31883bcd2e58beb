"""Databases that do not answer: a PostgreSQL of the test's own that can be stopped, and a proxy that swallows."""

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import psycopg

from tests.support.servers import free_port


def processes(address: str) -> list[int]:
    """All of the PostgreSQL there, its first process first."""
    with psycopg.connect(address) as connection:
        backend = connection.info.backend_pid
        first = int(Path(f"/proc/{backend}/stat").read_text().rpartition(") ")[2].split()[1])
    children = subprocess.check_output(["pgrep", "-P", str(first)], text=True).split()
    return [first, *map(int, children)]


@contextlib.contextmanager
def stopped(address: str) -> Iterator[None]:
    """PostgreSQL stands still: the system goes on taking connections for it."""
    found = processes(address)
    for process in found:
        with contextlib.suppress(ProcessLookupError):  # of the connection that asked for them
            os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


class Proxy:
    """Before PostgreSQL; while `silent` it takes and keeps connections, and swallows what is sent over them."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self.there, self.port = (parts.hostname, parts.port), free_port()
        self.address = parts._replace(netloc=f"{parts.username}@127.0.0.1:{self.port}").geturl()
        self.is_silent = False
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)

    def __enter__(self) -> Self:
        self.thread.start()
        start = asyncio.start_server(self.connected, "127.0.0.1", self.port)
        asyncio.run_coroutine_threadsafe(start, self.loop).result(10)
        return self

    def __exit__(self, *args: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        self.is_silent = True
        try:
            yield
        finally:
            self.is_silent = False

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(*self.there)
        await asyncio.gather(self.pass_on(reader, server_writer), self.pass_on(server_reader, writer))

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while part := await reader.read(65536):
                if not self.is_silent:
                    writer.write(part)
        writer.close()
