"""The text of a secret: `sk-`, 32 random base62 characters (190 bits), 6 base62 characters of the CRC-32 of both.

The checksum lets scanners and the gate reject noise without a look-up; it adds no security.
"""

import secrets
import string
import zlib

PREFIX = "sk-"
ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
RANDOM_LENGTH = 32
CHECKSUM_LENGTH = 6
LENGTH = len(PREFIX) + RANDOM_LENGTH + CHECKSUM_LENGTH


PAIRS = [
    first + second for first in ALPHABET for second in ALPHABET
]  # two digits at a time: faster, and the gate checks one on every call


def checksum(body: str) -> str:
    high, low = divmod(zlib.crc32(body.encode()), len(PAIRS))
    high, middle = divmod(high, len(PAIRS))
    return PAIRS[high] + PAIRS[middle] + PAIRS[low]


def new_secret() -> str:
    body = PREFIX + "".join(secrets.choice(ALPHABET) for _ in range(RANDOM_LENGTH))
    return body + checksum(body)


def well_formed(text: str) -> bool:
    """Whether `text` has the form of a secret, checksum included."""
    body, check = text[:-CHECKSUM_LENGTH], text[-CHECKSUM_LENGTH:]
    return len(text) == LENGTH and text.isascii() and text.startswith(PREFIX) and check == checksum(body)


def hint(secret: str) -> str:
    """What lists show of a secret, to tell keys apart: 4 random characters, and the last 4 of the checksum."""
    return f"{secret[: len(PREFIX) + 4]}…{secret[-4:]}"
