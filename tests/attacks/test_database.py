"""Somebody between a program and its PostgreSQL, who answers in its place and wants the password."""

import secrets
import socket
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.servers import ROOT

pytestmark = pytest.mark.once
PASSWORD = secrets.token_hex(16)
NAME = "db.example.org"
TLS_REQUEST, ASK_FOR_PASSWORD = struct.pack("!ii", 8, 80877103), b"R" + struct.pack("!ii", 8, 3)


class Impostor:
    """Speaks as much of PostgreSQL's protocol as it takes to be told a password; over TLS if it has a certificate."""

    def __init__(self, certificate: Path | None) -> None:
        self.tls = None
        if certificate:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(certificate, certificate.with_suffix(".key"))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.heard = b""
        threading.Thread(target=self.answer, daemon=True).start()

    def answer(self) -> None:
        while True:
            try:
                caller: socket.socket = self.listener.accept()[0]
                said = caller.recv(8192)
                if said == TLS_REQUEST:
                    caller.sendall(b"S" if self.tls else b"N")
                    caller = self.tls.wrap_socket(caller, server_side=True) if self.tls else caller
                    said = caller.recv(8192)
                self.heard += said
                if said:
                    caller.sendall(ASK_FOR_PASSWORD)
                    self.heard += caller.recv(8192)
                caller.close()
            except ssl.SSLError:
                continue
            except OSError:
                return  # the listener is closed

    def ask(self, more: str, folder: Path) -> str:
        """What `manage.py housekeep` says, told that this is its database."""
        url = f"postgres://console:{PASSWORD}@{NAME}:{self.port}/console?hostaddr=127.0.0.1{more}"
        environment = {"CONSOLE_DATA_DIR": str(folder), "DATABASE_URL": url, "HOME": str(folder)}
        secrets = {"SECRET_KEY": PASSWORD * 2, "VAULT_KEYS": f"1:{'A' * 43}=", "DIGEST_KEYS": f"1:{'A' * 43}="}
        command = [sys.executable, "manage.py", "housekeep", "--once"]
        return subprocess.run(
            command, cwd=ROOT, env=environment | secrets, capture_output=True, text=True, timeout=60
        ).stderr


def none(folder: Path) -> None:
    """It speaks no TLS."""


def another_authoritys(folder: Path) -> Path:
    (folder / "another").mkdir()
    return Authority(folder / "another").issue("db", NAME)


def for_another_name(folder: Path) -> Path:
    return Authority(folder).issue("db", "evil.example.org")


@pytest.mark.parametrize("certificate", [none, another_authoritys, for_another_name])
def test_nobody_in_between_is_told_the_password(tmp_path: Path, certificate: Callable[[Path], Path | None]) -> None:
    found = certificate(tmp_path)
    if not (tmp_path / "ca.crt").exists():
        Authority(tmp_path)
    impostor = Impostor(found)
    said = impostor.ask("", tmp_path)
    assert PASSWORD.encode() not in impostor.heard
    assert said.startswith(
        "DATABASE_URL=postgres://…: The connection to a database on another machine must be verified. Add ?sslmode"
    )
    said = impostor.ask(f"&sslmode=verify-full&sslrootcert={tmp_path}/ca.crt", tmp_path)
    assert PASSWORD.encode() not in impostor.heard
    assert "SSL" in said or "certificate" in said
    impostor.listener.close()


def test_the_database_itself_is(tmp_path: Path) -> None:
    database = Impostor(Authority(tmp_path).issue("db", NAME))
    database.ask(f"&sslmode=verify-full&sslrootcert={tmp_path}/ca.crt", tmp_path)
    assert PASSWORD.encode() in database.heard
    database.listener.close()
