"""How long does an owner who is logged on take to delete a leaked key, while 200 clients hold the console?

    make overload     alone, beside clients that try passwords, and beside clients that send slowly; without and
                      with nginx (which it needs)

A deletion is three requests: the list, the form, and the form sent with a code.
"""

import argparse
import contextlib
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.hammer import hammering
from tests.support.nginx import Gateway
from tests.support.person import Person
from tests.support.servers import AS_INSTALLED, free_port, running

CLIENTS = 200


@contextlib.contextmanager
def nobody(url: str) -> Iterator[dict[str, int]]:
    yield {}


@contextlib.contextmanager
def trying_passwords(url: str) -> Iterator[dict[str, int]]:
    with hammering(url, CLIENTS) as answers:
        yield answers


@contextlib.contextmanager
def sending_slowly(url: str) -> Iterator[dict[str, int]]:
    parts = urlsplit(url)
    with contextlib.ExitStack() as held:
        for _ in range(CLIENTS):
            client = held.enter_context(socket.create_connection((parts.hostname, parts.port)))
            client.sendall(b"POST /login/ HTTP/1.1\r\nHost: ")
        yield {}


WAYS = {"alone": nobody, f"{CLIENTS} try passwords": trying_passwords, f"{CLIENTS} send slowly": sending_slowly}


def measure(owner: Person, deletions: int) -> list[float]:
    """Seconds of each deletion."""
    took = []
    for _ in range(deletions):
        key_id, _ = owner.create()
        began = time.monotonic()
        answer = owner.delete(key_id)
        took.append(time.monotonic() - began)
        assert answer.status_code == 200 and key_id not in answer.text, answer.status_code
    return took


@contextlib.contextmanager
def site(folder: Path, nginx: bool) -> Iterator[Person]:
    """With an owner who is logged on."""
    port = free_port()
    url = f"https://127.0.0.1:{port}"
    more = {"CONSOLE_URL": url, "TRUSTED_PROXIES": "127.0.0.1"} if nginx else {}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(
            running(folder / "data", API_KEYS_MAX_CREATED_PER_DAY="1000", **more, **AS_INSTALLED)
        )
        certificate = None
        if nginx:
            gateway = Gateway(folder / "nginx", gate=server.gate_port, console=server.port, console_at=port)
            certificate = stack.enter_context(gateway.serving()).certificate
        owner = stack.enter_context(Person(url if nginx else server.address, certificate))
        owner.http.timeout = 120
        yield owner.log_on()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deletions", type=int, default=3, help="of each kind; an owner has ten recovery codes")
    words = parser.parse_args()
    print(f"{'':14}{'':22}{'median':>10}{'longest':>10}   answers to the others")
    for nginx in (False, True):
        with tempfile.TemporaryDirectory() as folder, site(Path(folder), nginx) as owner:
            for name, way in WAYS.items():
                with way(str(owner.http.base_url)) as others:
                    took = measure(owner, words.deletions)
                where = "behind nginx" if nginx else "without nginx"
                print(
                    f"{where:14}{name:22}{statistics.median(took):8.2f} s{max(took):8.2f} s   {dict(others)}",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
