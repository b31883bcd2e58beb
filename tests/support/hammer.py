"""Clients who try passwords at the log-on, each again as soon as it is answered, until SIGTERM:
`python -m tests.support.hammer URL CLIENTS`. Prints how many answers there were of each status."""

import asyncio
import contextlib
import json
import re
import signal
import ssl
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlencode, urlsplit

from tests.support.servers import ROOT

CONTENT_LENGTH = re.compile(rb"content-length: *([0-9]+)", re.IGNORECASE)
COOKIE = re.compile(rb"set-cookie: *((?:__Host-)?csrftoken=[^;]+)", re.IGNORECASE)
TOKEN = re.compile(rb'name="csrfmiddlewaretoken" value="([^"]+)"')


class Client:
    def __init__(self, url: str, answers: Counter[str]) -> None:
        self.url, self.answers = urlsplit(url), answers
        self.begun = asyncio.Event()

    async def run(self) -> None:
        while True:
            with contextlib.suppress(OSError, EOFError, asyncio.IncompleteReadError):
                await self.hammer()
            self.answers["cut off"] += 1

    async def hammer(self) -> None:
        tls = ssl.create_default_context() if self.url.scheme == "https" else None
        if tls:
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        self.reader, self.writer = await asyncio.open_connection(self.url.hostname, self.url.port, ssl=tls)
        try:
            head, page = await self.ask("GET")
            cookie, token = COOKIE.search(head), TOKEN.search(page)
            if not cookie or not token:
                return
            self.begun.set()
            while True:
                form = {"csrfmiddlewaretoken": token[1], "username": uuid.uuid4().hex, "password": uuid.uuid4().hex}
                head, _ = await self.ask("POST", urlencode(form), f"Cookie: {cookie[1].decode()}\r\n")
                self.answers[head[9:12].decode()] += 1
        finally:
            self.writer.close()

    async def ask(self, method: str, form: str = "", headers: str = "") -> tuple[bytes, bytes]:
        """The answer's head and body."""
        address = f"{self.url.scheme}://{self.url.netloc}"
        request = (
            f"{method} /login/ HTTP/1.1\r\nHost: {self.url.netloc}\r\nOrigin: {address}\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(form)}\r\n{headers}\r\n{form}"
        )
        self.writer.write(request.encode())
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = CONTENT_LENGTH.search(head)
        return head, await self.reader.readexactly(int(length[1]) if length else 0)


async def main(url: str, clients: int) -> None:
    answers: Counter[str] = Counter()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    everybody = [Client(url, answers) for _ in range(clients)]
    tasks = [asyncio.create_task(client.run()) for client in everybody]
    for client in everybody:
        await client.begun.wait()
    print("begun", flush=True)
    await stop.wait()
    print(json.dumps(answers))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.contextmanager
def hammering(url: str, clients: int) -> Iterator[Counter[str]]:
    """Beside the block, from when all are at it; afterwards, how many answers there were of each status."""
    words = [sys.executable, "-m", "tests.support.hammer", url, str(clients)]
    answers: Counter[str] = Counter()
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "begun\n"
        try:
            yield answers
        finally:
            process.terminate()
            answers.update(json.loads(process.stdout.read()))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
