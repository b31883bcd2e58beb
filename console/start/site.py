"""What Django is needed for: the database, the first account and the static files."""

import secrets
from io import StringIO
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import DatabaseError, connection

from console.accounts import User
from console.environment import Environment
from console.management.commands.createroot import weakness
from console.operators import create_root
from console.start import StartError, migration
from console.start.secrets_file import write_atomically
from console.vault_keys import VaultKey


def check_password(found: Environment) -> None:
    """Raises StartError if CONSOLE_ROOT_PASSWORD is too weak."""
    if found.root_password and (why := weakness("root", found.root_password)):
        raise StartError(f"CONSOLE_ROOT_PASSWORD: {why} Set a stronger one, or unset it to have one generated.")


def prepare(found: Environment) -> str:
    """The line to print about the first account's password, or "". Raises StartError."""
    try:
        with migration.one_at_a_time():
            migration.migrate(found.sqlite_file)
            VaultKey.check_all()
            password = first_account(found)
            call_command("meter", once=True, stdout=StringIO())  # the gate wants the file of deleted keys
    except (DatabaseError, ImproperlyConfigured) as error:
        raise StartError(str(error)) from error
    finally:
        connection.close()
    # All of them again: on a full disk, an earlier start may have left some incomplete.
    call_command("collectstatic", interactive=False, clear=True, verbosity=0)
    return password


def first_account(found: Environment) -> str:
    """Create the root account `root` where there is none."""
    kept = password_file(found)
    if User.objects.filter(account=None).exists():
        return shown(kept.read_text()) if kept.exists() else ""
    if given := found.root_password:
        kept.unlink(missing_ok=True)
        create_root("root", given, operator=True)
        return "as set by CONSOLE_ROOT_PASSWORD"
    password = secrets.token_urlsafe(18)
    write_atomically(kept, password)
    create_root("root", password, operator=True, printed=True)
    return shown(password)


def shown(password: str) -> str:
    return f"{password}   (shown only once)"


def password_file(found: Environment) -> Path:
    """Where it is kept until it is printed: a start may be killed in between."""
    return found.data_dir / "root-password"


def password_printed(found: Environment) -> None:
    password_file(found).unlink(missing_ok=True)
