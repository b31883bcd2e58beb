"""The real nginx with deploy/nginx.conf: before the gate and stand-ins of the service, and before the console."""

import contextlib
import grp
import os
import pwd
import re
import shutil
import socket
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx

from tests.support.certificates import Authority
from tests.support.servers import ROOT, free_port
from tests.support.waiting import wait_for

ESTABLISHED = "01"
NGINX_FOLDERS = ("body", "proxy", "fastcgi", "scgi", "uwsgi")


def clean(**more: str) -> dict[str, str]:
    """An environment that has nothing of ours in it."""
    return {"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(ROOT), **more}


@contextlib.contextmanager
def program(output: Path, *command: str) -> Iterator[subprocess.Popen[str]]:
    """A process that writes to that file."""
    with output.open("w") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=clean(), stdout=out, stderr=out, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def connections(port: int) -> int:
    """How many callers are connected to that port of this machine."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{port:04X}") and row[3] == ESTABLISHED for row in rows)


def adapted(name: str, folder: Path, ports: dict[int, int]) -> str:
    """That file of deploy/, with these ports instead of its own, all else in that folder, and for this user."""
    me = f"user {pwd.getpwuid(os.geteuid()).pw_name} {grp.getgrgid(os.getegid()).gr_name};"
    kept_in = "".join(
        f"{'client_body' if name == 'body' else name}_temp_path {folder}/{name};\n" for name in NGINX_FOLDERS
    )
    conf = (ROOT / "deploy" / name).read_text()
    conf = re.sub(r"127\.0\.0\.1:(\d+)", lambda match: f"127.0.0.1:{ports[int(match[1])]}", conf)
    conf = conf.replace("user www-data;", me).replace("\nhttp {\n", f"\nhttp {{\n{kept_in}")
    for place in ("/var/log/nginx", "/etc/ssl/private", "/etc/ssl", "/run"):
        conf = conf.replace(f"{place}/", f"{folder}/")
    return conf


@contextlib.contextmanager
def nginx(folder: Path, conf: str, ports: Iterable[int]) -> Iterator[None]:
    """Until it listens at these ports, and as long as the block takes."""
    program_file = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    assert program_file, "nginx is missing"
    (folder / "nginx.conf").write_text(conf)
    words = ["-p", str(folder), "-c", "nginx.conf", "-e", "error.log", "-g", "daemon off;"]
    with program(folder / "output", program_file, *words) as process:
        wait_for(lambda: all(map(listens, ports)) or process.poll() is not None)
        assert process.returncode is None, (folder / "output").read_text()
        yield


class Gateway:
    """nginx, before the gate, the two upstreams and the console at these ports; 0 is one where nothing listens."""

    def __init__(
        self,
        folder: Path,
        gate: int = 0,
        http_upstream: int = 0,
        grpc_upstream: int = 0,
        console: int = 0,
        console_at: int = 0,
        limits: bool = True,
    ) -> None:
        """`limits`: those of requests and connections for each caller. A caller may name another address as its own."""
        self.folder, self.http_upstream = folder, http_upstream
        self.ports = {"HTTP": free_port(), "GRPC": free_port(), "console": console_at or free_port()}
        new_ports = {8080: self.ports["HTTP"], 8081: self.ports["GRPC"], 8443: self.ports["console"]}
        upstreams = {8000: console, 8001: gate, 9000: http_upstream, 9001: grpc_upstream}
        new_ports |= {port: given or free_port() for port, given in upstreams.items()}
        folder.mkdir()
        self.authority = Authority(folder)
        self.authority.issue("console", "127.0.0.1")
        self.certificate = self.authority.file
        self.conf = adapted("nginx.conf", folder, new_ports)
        real_ip = "set_real_ip_from 127.0.0.1; real_ip_header X-Real-IP;"
        self.conf = self.conf.replace("\nhttp {\n", f"\nhttp {{\n{real_ip}\n")
        if not limits:
            self.conf = re.sub(r"^ +limit_(req|conn) .*", "", self.conf, flags=re.MULTILINE)

    @contextlib.contextmanager
    def serving(self) -> Iterator["Gateway"]:
        with nginx(self.folder, self.conf, self.ports.values()):
            yield self

    def call(self, path: str = "/v1/collections", **options: Any) -> httpx.Response:
        """Over HTTP, from an address that nobody else calls from."""
        transport = httpx.HTTPTransport(local_address="127.0.0.5")
        with httpx.Client(transport=transport, timeout=20) as http:
            return http.request(options.pop("method", "GET"), f"http://127.0.0.1:{self.ports['HTTP']}{path}", **options)
