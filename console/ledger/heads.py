"""Signed heads: how far every ledger had come, hour by hour, in a file that is kept where nobody who writes to the
database can change it. Without Django, and by itself a verifier of such a file:

python -m console.ledger.heads ledger-heads --public-key ledger-heads.pub [--account 1 --export activity.csv]

A line is JSON, a tab, and the Ed25519 signature of that JSON in base64. It has the time, the SHA-256 of the line before
and, for each account whose ledger has grown since, the number and hash of its last row; the first has all accounts.
"""

import argparse
import base64
import errno
import hashlib
import json
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from console.ledger.chain import BrokenChain
from console.ledger.verify import verify_file

Head = tuple[int, str]  # the number and the hash of a ledger's last row


@dataclass
class Heads:
    """What a file has, once its signatures have been verified."""

    lines: int = 0
    at: str = ""  # the last line's time
    previous: str = ""  # the SHA-256 of the last line
    last: dict[str, Head] = field(default_factory=dict)  # by account
    kept: dict[str, set[bytes]] = field(default_factory=dict)  # all hashes, by account


def read(lines: Iterable[bytes], key: Ed25519PublicKey) -> Heads:
    """Raises BrokenChain that names the first line that is wrong."""
    found = Heads()
    for line in lines:
        found.lines += 1
        try:
            content, signature = line.removesuffix(b"\n").split(b"\t")
            key.verify(base64.b64decode(signature, validate=True), content)
            said = json.loads(content)
        except InvalidSignature:
            raise BrokenChain(f"line {found.lines} is not signed with this key") from None
        except ValueError:
            raise BrokenChain(f"line {found.lines} is incomplete") from None
        if said["previous"] != found.previous:
            raise BrokenChain(f"line {found.lines} does not follow the line before: a line is missing")
        found.at, found.previous = said["at"], hashlib.sha256(line).hexdigest()
        for account, (number, last) in said["heads"].items():
            check_growth(f"line {found.lines}: ", account, found.last.get(account), (number, last))
            found.last[account] = (number, last)
            found.kept.setdefault(account, set()).add(bytes.fromhex(last))
    return found


def check_growth(where: str, account: str, before: Head | None, now: Head) -> None:
    """Raises BrokenChain where a ledger is shorter than it was, or as long and another one."""
    if before and (now[0] < before[0] or (now[0] == before[0] and now[1] != before[1])):
        raise BrokenChain(f"{where}the ledger of {account} has {now[0]} rows; it had {before[0]} that ended otherwise")


def read_file(file: Path, key: Ed25519PublicKey) -> Heads:
    """Raises BrokenChain, and OSError where it cannot be read."""
    with file.open("rb") as lines:
        heads = read(lines, key)
    if not heads.lines:
        raise BrokenChain("it has no lines")
    return heads


def append(file: Path, key: Ed25519PrivateKey, at: datetime, heads: Iterable[tuple[str, Head]]) -> None:
    """A line more, whole or not at all. Raises BrokenChain where the file is not what was written before, or a ledger
    was cut since."""
    known = Heads()
    if file.exists() and file.stat().st_size:
        known = read_file(file, key.public_key())
    grown = {account: head for account, head in heads if known.last.get(account) != head}
    for account, head in grown.items():
        check_growth("", account, known.last.get(account), head)
    said = {"at": f"{at:%Y-%m-%dT%H:%M:%SZ}", "previous": known.previous, "heads": grown}
    content = json.dumps(said, separators=(",", ":")).encode()
    line = content + b"\t" + base64.b64encode(key.sign(content)) + b"\n"
    add(file, line)


def add(file: Path, line: bytes) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, mode=0o600)
    try:
        size = os.fstat(descriptor).st_size
        try:
            if os.write(descriptor, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        except OSError:
            with suppress(OSError):
                os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


def signing_key(file: Path) -> Ed25519PrivateKey:
    """The private key in that file. Where there is none it is made, readable by its owner alone, with the public key
    beside it. Raises OSError, and ValueError where it cannot be used."""
    if not file.exists():
        made = Ed25519PrivateKey.generate()
        private = made.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        public = made.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        file.with_suffix(".pub").write_bytes(public)
        new = file.with_suffix(".new")  # renamed when it is complete: a full disk leaves no half a key
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode=0o600), "wb") as out:
            out.write(private)
        new.rename(file)
    from console.secret_files import exposed  # here, so that a verifier needs nothing but this folder

    if problem := exposed(file):
        raise ValueError(problem)
    key = serialization.load_pem_private_key(file.read_bytes(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{file} is no Ed25519 private key in PEM")
    return key


def public_key(file: Path) -> Ed25519PublicKey:
    """Raises OSError, and ValueError where it is no such key."""
    key = serialization.load_pem_public_key(file.read_bytes())
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"{file} is no Ed25519 public key in PEM")
    return key


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m console.ledger.heads", description="Verify a file of heads.")
    parser.add_argument("file", type=Path, help="what LEDGER_HEADS_FILE names, or a copy")
    parser.add_argument("--public-key", type=Path, required=True, help="ledger-heads.pub of the data folder, or a copy")
    parser.add_argument("--export", type=Path, help="an unfiltered CSV export that must have all heads of an account")
    parser.add_argument("--account", help="which one, by its number in the file of heads")
    words = parser.parse_args()
    if (words.export is None) != (words.account is None):
        parser.error("--export and --account go together.")
    try:
        heads = read_file(words.file, public_key(words.public_key))
    except (BrokenChain, OSError, ValueError) as error:
        print(f"{words.file}: {error}", file=sys.stderr)
        return 1
    print(f"{words.file}: {heads.lines} lines, the last of {heads.at}")
    for account, (number, last) in sorted(heads.last.items()):
        print(f"account {account}: {number} rows, last hash {last}")
    return verify_export(words.export, heads, words.account) if words.export else 0


def verify_export(export: Path, heads: Heads, account: str) -> int:
    if account not in heads.kept:
        print(f"The file of heads has no account {account}.", file=sys.stderr)
        return 1
    try:
        verified = verify_file(export, heads.kept[account])
    except (BrokenChain, OSError, UnicodeDecodeError) as error:
        print(f"{export}: {error}", file=sys.stderr)
        return 1
    print(f"{export}: {verified.rows} rows, with all {len(heads.kept[account])} heads of account {account}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
