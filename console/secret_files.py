"""Files that hold secrets: `NAME=value` a line, and for nobody else to read."""

import os
import re
import shlex
import stat
from pathlib import Path

LINE = re.compile(r"\s*((export )?(?P<name>\w+)=(?P<quote>[\"']?)(?P<value>.*)(?P=quote)|#.*)?\s*")


def exposed(file: Path) -> str:
    """What to do where other users can read or write it; "" where none can. Raises OSError.

    What systemd and container platforms hand to a program is often root's, and the program reads it by its group or by
    an access control list, which shows as the group's right. (libpq has the same rule for a private key.)
    """
    found = file.stat()
    mine = stat.S_IRGRP if found.st_uid == 0 != os.geteuid() else 0
    if not found.st_mode & (stat.S_IRWXG | stat.S_IRWXO) & ~mine:
        return ""
    chmod = f"chmod 600 {shlex.quote(str(file))}"
    return f"{file}: Other users can read or write it. Run {chmod}, and check whether anyone has."


def as_text(values: dict[str, str]) -> str:
    return "".join(f'{name}="{value}"\n' for name, value in values.items())
