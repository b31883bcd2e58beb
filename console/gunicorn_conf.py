"""gunicorn for the console's pages: a few slow requests in threads (a password takes a third of a second)."""

import os
from typing import Any

from console import environment, logs
from console.forks import post_worker_init  # noqa: F401  (gunicorn's hook)

ENVIRONMENT = environment.read_or_exit()
workers = ENVIRONMENT.console_workers
worker_class = "console.worker.Worker"
threads = 8
worker_connections = 900  # a process may have 1,024 files open, as systems are set up
timeout = 60
graceful_timeout = 8  # twice what the longest request may wait for the database
keepalive = 75  # longer than the proxy's in front, which otherwise meets closed connections
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None
control_socket_disable = True
# Whose X-Forwarded-Proto is believed; a Unix socket's is in any case.
forwarded_allow_ips = ",".join(ENVIRONMENT.trusted_proxies.as_seen())
logconfig_dict = logs.CONFIG
TWINS = (
    "The user names %s and %s differ only in case. Each user has to log on with the exact name. To change one, run "
    "`manage.py renameuser NAME NEW_NAME`."
)


STATEMENT_SECONDS = 3  # somebody waits for the page


def on_starting(server: Any) -> None:
    """Refuse to start with vault keys that are not this database's."""
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")
    django.setup()
    from django.core.exceptions import ImproperlyConfigured
    from django.db import DatabaseError, connection

    from console.postgres.base import DatabaseWrapper
    from console.vault_keys import VaultKey

    DatabaseWrapper.seconds = STATEMENT_SECONDS  # in the workers too, which are forked

    try:
        VaultKey.check_all()
    except DatabaseError as error:
        server.log.warning("The vault's keys are not checked, the database cannot be asked: %s", error)
    except ImproperlyConfigured as error:
        raise SystemExit(str(error)) from error
    finally:
        connection.close()  # before the workers are forked


def when_ready(server: Any) -> None:
    """Report user names that differ in case alone."""
    from django.db import DatabaseError, connection

    from console.accounts import User, fold_names

    try:
        for names in fold_names(User.objects):
            server.log.warning(TWINS, *names)
    except DatabaseError as error:
        server.log.warning("User names are not checked, the database cannot be asked: %s", error)
    finally:
        connection.close()
