"""The gate: is this key good, and whose is it? Without ORM, middleware, view or form.

It fails closed: what is not known to be good is 401, what cannot be asked or counted is 503. docs/gateway.md says
what each odd header is answered. apikeys.gate.worker speaks HTTP for it.
"""

import json
import logging
import time
import uuid
from collections.abc import Callable

from apikeys.gate import metrics
from apikeys.gate.lookup import Answer, Lookup, PostgresLookup, SqliteLookup
from apikeys.keys import format as keyformat
from apikeys.metering.counter import CallCounter
from console import settings
from console.proxies import caller_address

Headers = list[tuple[bytes, bytes]]  # names in lower case
Reply = Callable[[bytes, bytes, bytes], None]  # status line's end, header lines, body

TOKEN, AUTHORIZATION, FORWARDED = b"dashvector-auth-token", b"authorization", b"x-forwarded-for"
STATUSES = {401: b"401 Unauthorized", 404: b"404 Not Found", 503: b"503 Service Unavailable"}
MESSAGES = {
    "missing": "Send an API key in the header dashvector-auth-token, or as Authorization: Bearer.",
    "malformed": "This is not an API key. Check that it was copied whole, and that it is sent once.",
    "unknown": "This API key is not known here.",
    "deleted": "This API key was deleted, or its account is disabled. Create a new one in the console.",
}
TELL_SECONDS = 10  # a worker logs no oftener why it answers 503
logger = logging.getLogger(__name__)


class Refused(Exception):
    """401, for the reason that is a key of MESSAGES."""


def key_in(headers: Headers) -> str:
    """The key that a call carries. Raises Refused."""
    tokens, bearers = set(), set()
    for name, value in headers:
        if name == TOKEN:
            tokens.add(value.strip())  # RFC 9110, 5.5: space around a value is none of it
        elif name == AUTHORIZATION and value[:7].lower() == b"bearer ":
            bearers.add(value[7:].strip())
    tokens.discard(b"")
    bearers.discard(b"")
    sent = tokens or bearers
    if not sent:
        raise Refused("missing")
    key = sent.pop().decode("latin-1")
    if sent or not keyformat.well_formed(key):
        raise Refused("malformed")
    return key


class Gate:
    """One for each worker, made after the fork."""

    def __init__(self) -> None:
        self.lookup: Lookup
        if settings.SQLITE_FILE:
            self.lookup = SqliteLookup(settings.SQLITE_FILE)
        else:
            self.lookup = PostgresLookup(settings.postgres_conninfo(settings.DATABASES["default"]))
        self.counter = CallCounter(settings.METERING_DIR)
        self.digests = settings.VAULT.digests
        self.proxies = settings.TRUSTED_PROXIES
        self.told: float | None = None

    def close(self) -> None:
        self.counter.close()
        self.lookup.close()

    def caller(self, headers: Headers, peer: str) -> str:
        """The caller's address: what a trusted proxy says of it, else the connection's."""
        forwarded_for = b",".join(value for name, value in headers if name == FORWARDED).decode("latin-1")
        return caller_address(peer, forwarded_for, self.proxies)

    def tell(self, why: object) -> None:
        """Log why calls are answered 503, now and then."""
        now = time.monotonic()
        if self.told is None or now - self.told > TELL_SECONDS:
            self.told = now
            logger.error("Calls are answered 503: %s", why)

    def ask(self, path: bytes, headers: Headers, peer: str, reply: Reply) -> None:
        """Answer a call, at once or when the database has answered."""
        if not path.startswith(b"/"):  # RFC 9112, 3.2.2: the absolute form is to be accepted
            path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
        path = path.partition(b"?")[0]
        if path == b"/metrics":
            reply(b"200 OK", b"content-type: text/plain; version=0.0.4\r\n", metrics.render(settings.METERING_DIR))
            return
        if path != b"/verify" and not path.startswith(b"/verify/"):  # Envoy appends the path of the call
            refuse(reply, 404, "Ask /verify.")
            return
        try:
            key = key_in(headers)
        except Refused as reason:
            refuse_key(reply, str(reason))
            return

        def answer(found: Answer) -> None:
            if found is None:
                refuse_key(reply, "unknown")
                return
            try:
                if isinstance(found, str):
                    raise OSError(found)
                self.counter.count(found.key_id, found.active, self.caller(headers, peer))
            except OSError as error:
                self.tell(error)
                refuse(reply, 503, "Keys cannot be checked at the moment. Try again.", b"retry-after: 1\r\n")
                return
            if found.active:
                key_id = found.key_id.hex()
                key_id = f"{key_id[:8]}-{key_id[8:12]}-{key_id[12:16]}-{key_id[16:20]}-{key_id[20:]}"
                reply(b"200 OK", f"x-account-id: {found.account_id}\r\nx-api-key-id: {key_id}\r\n".encode(), b"")
            else:
                refuse_key(reply, "deleted")

        self.lookup.find(self.digests("api-key", key), answer)


def refuse(reply: Reply, status: int, message: str, headers: bytes = b"") -> None:
    body = json.dumps({"request_id": str(uuid.uuid4()), "code": status, "message": message}).encode()
    reply(STATUSES[status], b"content-type: application/json\r\n" + headers, body)


def refuse_key(reply: Reply, status: str) -> None:
    headers = f"x-api-key-status: {status}\r\nwww-authenticate: Bearer\r\n".encode()
    refuse(reply, 401, MESSAGES[status], headers)
