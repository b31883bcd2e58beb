"""gunicorn for the console: a few slow requests, in threads (checking a password takes a third of a second)."""

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
keepalive = 75  # longer than the proxy's, which would otherwise send requests to closed connections
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None
control_socket_disable = True
# The peers whose X-Forwarded-Proto is trusted; that of a Unix socket always is.
forwarded_allow_ips = ",".join(ENVIRONMENT.trusted_proxies.as_seen())
logconfig_dict = logs.CONFIG
TWINS = (
    "The user names %s and %s differ only in case. Each user has to log on with the exact name. To change one, run "
    "`manage.py renameuser NAME NEW_NAME`."
)


STATEMENT_SECONDS = 3  # a person waits for the page


def on_starting(server: Any) -> None:
    """Refuse to start with vault keys that do not belong to this database."""
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
        server.log.warning("The vault keys were not checked: the database is unavailable: %s", error)
    except ImproperlyConfigured as error:
        raise SystemExit(str(error)) from error
    finally:
        connection.close()  # before the workers are forked


def when_ready(server: Any) -> None:
    from django.db import DatabaseError, connection

    for what, check in (("User names", report_twins), ("Deleted keys", delete_again)):
        try:
            check(server)
        except DatabaseError as error:
            server.log.warning("%s were not checked: the database is unavailable: %s", what, error)
        except OSError as error:
            server.log.error("%s were not checked: %s", what, error)
        finally:
            connection.close()


def report_twins(server: Any) -> None:
    """Of user names that differ only in case."""
    from console.accounts import User, fold_names

    for names in fold_names(User.objects):
        server.log.warning(TWINS, *names)


def delete_again(server: Any) -> None:
    """What was made active while no console ran, by a backup for example that other tools have restored."""
    from console.operators import database_restored

    database_restored.send(None)
