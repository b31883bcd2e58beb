"""The chain of a ledger: what a row's hash covers, and how an export is verified. Standard library alone, so that an
auditor needs no installation (console.ledger.verify).

A row is a mapping of column names to the text in its CSV export. Its hash is SHA-256 over the hash of the row before
(32 zero bytes before the first) and the CSV line of the columns that its format names. A new column or parameter is a
new format; earlier rows keep theirs, and exports made before still verify.
"""

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

START = bytes(32)
BYTE_ORDER_MARK = "\ufeff"  # in front of a CSV file, by which Excel knows that it is UTF-8
FORMATS = {
    1: ("number", "at", "kind", "who", "address", "factor", "browser", "key_id", "key", "detail"),
    2: ("format", "number", "at", "kind", "actor", "who", "address", "factor", "browser", "key_id", "key", "params"),
}
FORMAT = max(FORMATS)
COLUMNS = (*FORMATS[FORMAT][1:3], "format", *FORMATS[FORMAT][3:], "detail", "hash")  # of an export

Row = Mapping[str, str]


class BrokenChain(Exception):
    """The chain does not hold. The message names the first row that is wrong."""


def csv_safe(value: object) -> str:
    """`value` as a CSV value that no spreadsheet runs as a formula: those get an apostrophe in front (OWASP, CSV
    injection)."""
    text = "" if value is None else str(value)
    return f"'{text}" if text[:1] in tuple("=+-@\t\r\n＝＋－＠") and text else text


def params_text(params: Mapping[str, Any]) -> str:
    """Parameters as JSON in one canonical form: sorted, without spaces, in UTF-8."""
    return json.dumps(params, sort_keys=True, separators=(",", ":"), ensure_ascii=False) if params else ""


class Line:
    """A file that hands each line back instead of keeping it."""

    def write(self, line: str) -> str:
        return line


def csv_lines(rows: Iterable[Iterable[object]]) -> Iterator[str]:
    """Those rows as the lines of a CSV file."""
    return map(csv.writer(Line()).writerow, rows)


def row_hash(previous: bytes, row: Row) -> bytes:
    """Raises BrokenChain for a format that this version does not know."""
    number = row.get("format") or "1"  # exports of the first format have no such column
    columns = FORMATS.get(int(number)) if number.isdecimal() else None
    if columns is None:
        raise BrokenChain(f"row {row['number']} has format {number}, which needs a newer version of this program")
    if added := sorted(name for name, cell in row.items() if cell and name not in (*columns, "format", "hash")):
        raise BrokenChain(f"row {row['number']} was changed: its format has no {', '.join(added)}")
    (line,) = csv_lines([[row[column] for column in columns]])
    return hashlib.sha256(previous + line.encode()).digest()


@dataclass(frozen=True)
class Verified:
    rows: int
    head: bytes  # the last row's hash


def verify(rows: Iterable[tuple[Row, bytes]], kept: Iterable[bytes] = ()) -> Verified:
    """Walk a whole ledger, from its first row, which every ledger has. `kept` are hashes that were the last one once:
    none of them may be missing, or rows were cut off the end or written anew since. Raises BrokenChain."""
    previous, count, missing = START, 0, {*kept}
    for row, found in rows:
        count += 1
        if row["number"] != str(count):
            raise BrokenChain(f"row {count} is missing; row {row['number']} is in its place")
        if row_hash(previous, row) != found:
            raise BrokenChain(f"row {count}, or a row before it, was changed: its hash does not match")
        missing.discard(found)
        previous = found
    if not count:
        raise BrokenChain("it has no rows: all of them were removed")
    if missing:
        hashes = ", ".join(sorted(hash.hex() for hash in missing))
        raise BrokenChain(f"no row has the hash {hashes}: rows were cut off the end, or written anew")
    return Verified(count, previous)


def read_export(file: Iterable[str]) -> Iterator[tuple[Row, bytes]]:
    """The rows of an unfiltered CSV export, in their order. Raises BrokenChain where `file` is no export."""
    lines = csv.reader(file)
    header = [name.removeprefix(BYTE_ORDER_MARK) for name in next(lines, [])]
    if not {*FORMATS[1], "hash"} <= {*header}:
        raise BrokenChain("this is not an export of a ledger: it starts without the names of the columns")
    for number, line in enumerate(lines, 1):
        row = dict(zip(header, line, strict=False))
        try:
            found = bytes.fromhex(row["hash"])
            row_hash(START, row)
        except (KeyError, ValueError) as error:
            raise BrokenChain(f"row {number} is incomplete") from error
        yield row, found


def export_lines(rows: Iterable[tuple[Row, bytes]]) -> Iterator[str]:
    """An export of those rows, line by line."""
    yield from csv_lines([COLUMNS])
    yield from csv_lines([*(row[column] for column in COLUMNS[:-1]), found.hex()] for row, found in rows)
