"""Signatures as GitHub puts them on what its secret scanning reports: ECDSA on P-256 with SHA-256, over the raw body.
https://docs.github.com/en/code-security/secret-scanning/secret-scanning-partner-program
"""

import base64
import json

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

PublicKeys = dict[str, ec.EllipticCurvePublicKey]


class SignatureRefused(Exception):
    """A signature by an unknown key, or one that is not of these bytes by that key."""


def public_keys(text: str) -> PublicKeys:
    """By their identifiers, from what https://api.github.com/meta/public_keys/secret_scanning answers:
    `{"public_keys": [{"key_identifier", "key": PEM, …}]}`. Raises ValueError where it is anything else."""
    keys: PublicKeys = {}
    try:
        for one in json.loads(text)["public_keys"]:
            key = load_pem_public_key(one["key"].encode())
            if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
                raise ValueError
            keys[one["key_identifier"]] = key
    except (AttributeError, KeyError, RecursionError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError from error
    return keys


def verify(keys: PublicKeys, identifier: str, signature: str, message: bytes) -> None:
    """`signature` is DER in base64. Raises SignatureRefused."""
    if identifier not in keys:
        raise SignatureRefused("The report is signed with an unknown key.")
    try:
        keys[identifier].verify(base64.b64decode(signature, validate=True), message, ec.ECDSA(SHA256()))
    except (InvalidSignature, ValueError):
        raise SignatureRefused("The signature of the report is invalid.") from None
