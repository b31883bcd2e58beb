"""Verify an unfiltered CSV export of a ledger, with nothing but Python:

python -m console.ledger.verify activity.csv [--head HASH]
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from console.ledger.chain import BrokenChain, Verified, read_export, verify

HEAD_HELP = "an earlier last hash, as an email or a line of the log names it, which must still be in the ledger"


def verify_file(path: Path, kept: Iterable[bytes] = ()) -> Verified:
    """Raises BrokenChain, and OSError or UnicodeDecodeError where the file cannot be read."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        return verify(read_export(file), kept)


def hash_value(text: str) -> bytes:
    value = bytes.fromhex(text)
    if len(value) != 32:
        raise ValueError
    return value


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m console.ledger.verify", description="Verify a ledger's export.")
    parser.add_argument("file", type=Path, help="an unfiltered CSV export of the Activity page")
    parser.add_argument("--head", type=hash_value, action="append", default=[], help=HEAD_HELP)
    words = parser.parse_args()
    try:
        verified = verify_file(words.file, words.head)
    except (BrokenChain, OSError, UnicodeDecodeError) as error:
        print(f"{words.file}: {error}", file=sys.stderr)
        return 1
    print(f"{words.file}: {verified.rows} rows, last hash {verified.head.hex()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
