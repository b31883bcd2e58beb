"""Encryption at rest, and the keyed digests that secrets are looked up by.

Free of Django, so that the gate can use it without loading a model. Each use has keys of its own, given as text
`version:base64url` pairs separated by commas. The highest version writes; all of them read.
"""

import base64
import hashlib
import hmac
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAX_DIGEST_KEYS = 8  # each costs the gate a look-up
NONCE_BYTES = 12  # NIST SP 800-38D: 96 random bits a message
Fingerprints = dict[tuple[str, int], bytes]  # by the variable that sets a key, and its version


class VaultError(Exception):
    """A stored secret cannot be opened: its row was altered or moved, or its key is missing."""


def new_key(keys: str = "") -> str:
    """`keys` with a new one added, in the form of VAULT_KEYS and DIGEST_KEYS."""
    version = max(parse_keys("keys", keys)) + 1 if keys else 1
    # unnoticed mutants (1): 32 bytes are also what `token_bytes` returns by default.
    key = f"{version}:{base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()}"
    return f"{keys},{key}" if keys else key


def parse_keys(name: str, text: str) -> dict[int, bytes]:
    """`1:…,2:…` as {version: 32 bytes}, newest first. Raises ValueError that says what to set."""
    keys: dict[int, bytes] = {}
    try:
        for item in text.split(","):
            version, encoded = item.strip().split(":")
            key = base64.b64decode(encoded, altchars=b"-_", validate=True)
            if len(key) != 32 or not 0 < int(version) < 2**16 or int(version) in keys:
                raise ValueError
            keys[int(version)] = key
    except ValueError:
        raise ValueError(
            f"{name} must be one or more `version:key` pairs separated by commas, "
            "each version once, each key 32 bytes in base64url."
        ) from None
    return dict(sorted(keys.items(), reverse=True))


def fingerprints(name: str, keys: dict[int, bytes]) -> Fingerprints:
    """What tells in a database which keys it was written with."""
    return {(name, version): hmac.digest(key, b"fingerprint", hashlib.sha256) for version, key in keys.items()}


def check(recorded: Fingerprints, mine: Fingerprints) -> None:
    """Raises VaultError where a key that a database was written with is missing or another one."""
    for (name, version), fingerprint in sorted(recorded.items()):
        found = mine.get((name, version))
        if found != fingerprint:
            problem = "is missing" if found is None else "differs from the one that this database was written with"
            raise VaultError(
                f"Version {version} of {name} {problem}. Without it, stored API keys can be neither decrypted nor "
                "recognized. Restore the secrets.env, or the environment, that belongs to this database. "
                "docs/operations.md explains how to retire keys."
            )


class Digests:
    """HMAC-SHA-256, for what is only looked up. It is all that the gate has of a vault."""

    def __init__(self, digest_keys: str) -> None:
        keys = parse_keys("DIGEST_KEYS", digest_keys)
        if len(keys) > MAX_DIGEST_KEYS:
            raise ValueError(f"DIGEST_KEYS has more than {MAX_DIGEST_KEYS} keys: remove the newest.")
        self.versions = [*keys]  # newest first, as `digests` answers them
        self._keyed_hashes = [hmac.new(key, digestmod=hashlib.sha256) for key in keys.values()]
        self.fingerprints = fingerprints("DIGEST_KEYS", keys)

    def digests(self, purpose: str, secret: str) -> list[bytes]:
        """The 32-byte digests to look `secret` up by, one for each digest key, the one to store first."""
        message = f"{purpose}\0{secret}".encode()
        digests = []
        for keyed in self._keyed_hashes:  # which takes half the time of hmac.digest, at every call of the gate
            digest = keyed.copy()
            digest.update(message)
            digests.append(digest.digest())
        return digests


class Vault(Digests):
    """AES-256-GCM as well, for what is shown again."""

    def __init__(self, vault_keys: str, digest_keys: str) -> None:
        keys = parse_keys("VAULT_KEYS", vault_keys)
        super().__init__(digest_keys)
        self._ciphers = {version: AESGCM(key) for version, key in keys.items()}
        self.fingerprints |= fingerprints("VAULT_KEYS", keys)

    def seal(self, place: str, secret: bytes) -> bytes:
        """Version (2 bytes, big-endian), nonce (12), ciphertext and tag (16). `place` names its row and
        field: moved to any other, it cannot be opened."""
        version, cipher = next(iter(self._ciphers.items()))
        nonce = secrets.token_bytes(NONCE_BYTES)
        header = version.to_bytes(2)
        return header + nonce + cipher.encrypt(nonce, secret, header + place.encode())

    def newest(self, box: bytes) -> bool:
        """Whether it is sealed with the newest key."""
        return int.from_bytes(box[:2]) == max(self._ciphers)

    def open(self, place: str, box: bytes) -> bytes:
        """What `seal` was given. Raises VaultError."""
        header, nonce, sealed = box[:2], box[2 : 2 + NONCE_BYTES], box[2 + NONCE_BYTES :]
        try:
            return self._ciphers[int.from_bytes(header)].decrypt(nonce, sealed, header + place.encode())
        except (InvalidTag, KeyError, ValueError) as error:
            raise VaultError(f"The stored secret of {place} cannot be opened.") from error
