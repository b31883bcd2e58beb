"""`make run`: everything on one machine, with all state in one folder.

Makes the secrets on the first run, migrates, makes the first root account, then starts the servers and ends them all
when it is told to stop or when one of them ends.
"""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

import django
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import DatabaseError

from console import environment
from console.vault import new_key

HOST = "127.0.0.1"
START_SECONDS = 60
SERVERS = {
    "Console": ("python:console.gunicorn_conf", "console.wsgi"),
    "Gate": ("python:apikeys.gate.gunicorn_conf", "apikeys.gate.main:gate"),
}


class StartError(Exception):
    """The installation cannot start; the message says what to do."""


def new_secrets() -> dict[str, str]:
    return {"SECRET_KEY": secrets.token_urlsafe(48), "VAULT_KEYS": new_key(), "DIGEST_KEYS": new_key()}


def write_secrets(file: Path, made: dict[str, str]) -> None:
    """On the first start, for the eyes of their owner alone."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if file.exists():
        return
    new = file.parent / f"secrets.{os.getpid()}.new"  # whole or not at all: a disk may be full
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode=0o600), "w") as out:
        out.writelines(f"{name}={value}\n" for name, value in made.items())
        out.flush()
        os.fsync(out.fileno())
    with contextlib.suppress(FileExistsError):  # another start was faster
        file.hardlink_to(new)
    new.unlink()


def first_account() -> str:
    """Make the root account `root` where there is none; what to print of its password."""
    from django.conf import settings

    from console.accounts import User
    from console.management.commands.createroot import weakness
    from console.operators import create_root

    if User.objects.filter(account=None).exists():
        return ""
    given = settings.ENVIRONMENT.root_password
    if given and (why := weakness("root", given)):
        print(f"CONSOLE_ROOT_PASSWORD is weak: {why} Change it at /security/password/.", file=sys.stderr)
    password = create_root("root", given, operator=True)
    return "as set by CONSOLE_ROOT_PASSWORD" if given else f"{password}   (shown only now)"


def check_vault() -> None:
    from console.vault_keys import VaultKey

    VaultKey.check_all()


def check_port(name: str, port: int) -> None:
    """Raises StartError where it cannot be listened on."""
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
    except OSError as error:
        raise StartError(f"Cannot listen on port {port}: {error}. Set {name} to a free port.") from error


def wait_until_serving(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise StartError("A server did not start; what it printed above says why.")


def stop(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def serve(ports: dict[str, int]) -> int:
    """Run the servers until told to stop, or until one ends by itself (then 1)."""
    servers = []
    try:
        for name, (conf, application) in SERVERS.items():
            command = [sys.executable, "-m", "gunicorn", "-c", conf, "-b", f"{HOST}:{ports[name]}", application]
            servers.append(subprocess.Popen(command, start_new_session=True))
        for name in ("housekeep", "meter"):
            servers.append(subprocess.Popen([sys.executable, "manage.py", name], start_new_session=True))
        for server, port in zip(servers, ports.values(), strict=False):
            wait_until_serving(server, port)
        for name, port in ports.items():
            print(f"{name + ':':10}http://{HOST}:{port}")
        password = first_account()  # only now: a password that is printed nowhere else must not be lost
        print(f"{'Account:':10}root")
        if password:
            print(f"{'Password:':10}{password}")
        sys.stdout.flush()
        while all(server.poll() is None for server in servers):
            time.sleep(0.5)
        return 1
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for server in servers:  # in this order: what the gate has counted is added to the database last
            server.terminate()
            server.wait()


def main() -> int:
    os.umask(0o077)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")
    try:
        made = new_secrets()
        found = environment.read(new_secrets=made)
        check_port("PORT", found.port)
        check_port("GATE_PORT", found.gate_port)
        write_secrets(found.secrets_file, made)
        # Not within an import: raised as a class is made, Python 3.11 passes it on as a RuntimeError.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        django.setup()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
        call_command("migrate", verbosity=0)
        check_vault()
        call_command("collectstatic", interactive=False, verbosity=0)
        return serve({"Console": found.port, "Gate": found.gate_port})
    except KeyboardInterrupt:
        return 0
    except (environment.ConfigurationError, ImproperlyConfigured, DatabaseError, StartError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
