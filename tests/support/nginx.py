"""The real nginx with deploy/nginx.conf: before the gate and stand-ins of the service, and before the console."""

import contextlib
import grp
import os
import pwd
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

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


def make_certificate(folder: Path) -> Path:
    """console.crt and console.key there, for 127.0.0.1, signed by itself; the first, to trust it by."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(hours=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "console.key").write_bytes(secret)
    (folder / "console.crt").write_bytes(certificate.public_bytes(pem))
    return folder / "console.crt"


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
        me = f"user {pwd.getpwuid(os.geteuid()).pw_name} {grp.getgrgid(os.getegid()).gr_name};"
        kept_in = "".join(
            f"{'client_body' if name == 'body' else name}_temp_path {folder}/{name};\n" for name in NGINX_FOLDERS
        )
        conf = (ROOT / "deploy" / "nginx.conf").read_text()
        conf = re.sub(r"127\.0\.0\.1:(\d+)", lambda match: f"127.0.0.1:{new_ports[int(match[1])]}", conf)
        conf = conf.replace("user www-data;", me).replace("\nhttp {\n", f"\nhttp {{\n{kept_in}")
        conf = conf.replace("\nhttp {\n", "\nhttp {\nset_real_ip_from 127.0.0.1; real_ip_header X-Real-IP;\n")
        if not limits:
            conf = re.sub(r"^ +limit_(req|conn) .*", "", conf, flags=re.MULTILINE)
        for place in ("/var/log/nginx", "/etc/ssl/private", "/etc/ssl", "/run"):
            conf = conf.replace(f"{place}/", f"{folder}/")
        folder.mkdir()
        self.certificate = make_certificate(folder)
        (folder / "nginx.conf").write_text(conf)

    @contextlib.contextmanager
    def serving(self) -> Iterator["Gateway"]:
        nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
        assert nginx, "nginx is missing"
        words = ["-p", str(self.folder), "-c", "nginx.conf", "-e", "error.log", "-g", "daemon off;"]
        with program(self.folder / "output", nginx, *words) as process:
            wait_for(lambda: all(map(listens, self.ports.values())) or process.poll() is not None)
            assert process.returncode is None, (self.folder / "output").read_text()
            yield self

    def call(self, path: str = "/v1/collections", **options: Any) -> httpx.Response:
        """Over HTTP, from an address that nobody else calls from."""
        transport = httpx.HTTPTransport(local_address="127.0.0.5")
        with httpx.Client(transport=transport, timeout=20) as http:
            return http.request(options.pop("method", "GET"), f"http://127.0.0.1:{self.ports['HTTP']}{path}", **options)
