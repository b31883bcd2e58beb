"""Prepare the data folder, start the servers (console.supervisor), and print their URLs."""

import os
import signal
import socket
import sys
from types import FrameType

from console import environment
from console.environment import ConfigurationError, Environment
from console.start import StartError, lock, secrets_file
from console.start.servers import SIGNALS, Servers
from console.supervisor import HOST


def exit_at_once(signum: int, frame: FrameType | None) -> None:
    """Until the servers run. Each step is done wholly or not at all, so that it may end at any moment."""
    os._exit(0)


def check_port(name: str, port: int) -> None:
    """Raises StartError where the port cannot be listened on."""
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
    except OSError as error:
        raise StartError(f"Cannot listen on port {port}: {error}. Set {name} to a free port.") from error


def start() -> int:
    made = secrets_file.new_secrets()
    found = environment.read(new_secrets=made)
    held = lock.take(found.data_dir, f"serves {found.console_url}")
    check_port("PORT", found.port)
    check_port("GATE_PORT", found.gate_port)
    if found.gate_metrics_port:
        check_port("GATE_METRICS_PORT", found.gate_metrics_port)
    new = secrets_file.write(found.secrets_file, made)

    import django

    django.setup()  # which takes the secrets
    from console.start import site

    try:
        site.check_password(found)
    except StartError:
        if new:  # a start that made nothing else leaves nothing behind
            found.secrets_file.unlink()
        raise
    password = site.prepare(found)
    servers = Servers(found, held)
    if servers.serving():
        print_all(found, password)
        site.password_printed(found)
    return servers.wait()


def print_all(found: Environment, password: str) -> None:
    lines = {"Console": f"http://{HOST}:{found.port}", "Gate": f"http://{HOST}:{found.gate_port}", "Account": "root"}
    if password:
        lines["Password"] = password
    for name, value in lines.items():
        print(f"{name + ':':10}{value}")
    sys.stdout.flush()


def main() -> int:
    os.umask(0o077)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")
    for signum in SIGNALS:
        if signum != signal.SIGHUP or signal.getsignal(signum) != signal.SIG_IGN:  # as nohup has it
            signal.signal(signum, exit_at_once)
    try:
        return start()
    except (ConfigurationError, StartError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
