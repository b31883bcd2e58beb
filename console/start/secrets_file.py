"""secrets.env, as the first start makes it."""

import os
import secrets
from pathlib import Path

from console.vault import new_key


def new_secrets() -> dict[str, str]:
    return {"SECRET_KEY": secrets.token_urlsafe(48), "VAULT_KEYS": new_key(), "DIGEST_KEYS": new_key()}


def write(file: Path, made: dict[str, str]) -> bool:
    """Where there is none yet: whole or not at all, readable by its owner alone. Whether it was written."""
    if file.exists():
        return False
    write_atomically(file, "".join(f"{name}={value}\n" for name, value in made.items()))
    return True


def write_atomically(file: Path, text: str) -> None:
    new = file.with_name(f"{file.name}.new")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode=0o600), "w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    new.replace(file)
