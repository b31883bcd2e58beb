"""Which key a call carries, and which answer a status gives. docs/gate.md has every case."""

import json
import uuid

from apikeys.gate import metrics
from apikeys.gate.call import AUTHORIZATION, OK, TOKEN, UNAUTHORIZED, UNAVAILABLE, Answer, Headers
from apikeys.keys import format as keyformat
from apikeys.keys.status import Status

MESSAGES = {  # deploy/nginx.conf has the same
    Status.MISSING: "Send an API key in the dashvector-auth-token header, or as a bearer token.",
    Status.MALFORMED: "This is not an API key. Check that it was copied in full and is sent only once.",
    Status.UNKNOWN: "This API key does not exist.",
    Status.DELETED: "This API key has been deleted. Create a new one in the console.",
    Status.DISABLED: "This API key or its account is disabled.",
    Status.EXPIRED: "This API key has expired. Create a new one in the console.",
}
CANNOT_CHECK = "API keys cannot be checked at the moment. Try again."


class Refused(Exception):
    """A call without a usable key."""

    def __init__(self, status: Status) -> None:
        self.status = status


def key_in(headers: Headers) -> str:
    """The key that a call carries. Raises Refused."""
    tokens, bearers = set(), set()
    for name, value in headers:
        if name == TOKEN:
            tokens.add(value.strip())  # RFC 9110, 5.5: surrounding whitespace is not part of a value
        elif name == AUTHORIZATION and value[:7].lower() == b"bearer ":
            bearers.add(value[7:].strip())
    tokens.discard(b"")
    bearers.discard(b"")
    sent = tokens or bearers
    if not sent:
        raise Refused(Status.MISSING)
    # unnoticed mutants (1): the names of encodings may be in capitals.
    key = sent.pop().decode("latin-1")
    if sent or not keyformat.well_formed(key):
        raise Refused(Status.MALFORMED)
    return key


def accept(key_id: bytes, account_id: int) -> Answer:
    """200, with whose key it is."""
    name = key_id.hex()
    name = f"{name[:8]}-{name[8:12]}-{name[12:16]}-{name[16:20]}-{name[20:]}"  # in half the time of uuid.UUID
    return Answer(OK, f"x-account-id: {account_id}\r\nx-api-key-id: {name}\r\n".encode(), b"", metrics.ACCEPTED)


def refuse(status: Status) -> Answer:
    """401, with the reason."""
    lines = f"x-api-key-status: {status}\r\nwww-authenticate: Bearer\r\n"
    return failure(UNAUTHORIZED, MESSAGES[status], lines, label=status)


def unavailable(message: str) -> Answer:
    return failure(UNAVAILABLE, message, "retry-after: 1\r\n", label=metrics.UNAVAILABLE)


def text(status: bytes, line: str) -> Answer:
    return Answer(status, b"content-type: text/plain; charset=utf-8\r\n", f"{line}\n".encode(), metrics.OTHER)


def failure(status: bytes, message: str, lines: str = "", label: str = metrics.OTHER) -> Answer:
    """An answer whose body says what is wrong."""
    body = {"request_id": str(uuid.uuid4()), "code": int(status.partition(b" ")[0]), "message": message}
    return Answer(status, f"content-type: application/json\r\n{lines}".encode(), json.dumps(body).encode(), label)
