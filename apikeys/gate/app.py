"""The gate: is this key active, and whose is it? Without ORM, middleware, view or form.

It fails closed: what is not known to be good is 401, what cannot be looked up or counted is 503. HTTP is in
apikeys.gate.http.
"""

import logging
import time
import uuid
from functools import lru_cache
from math import inf
from pathlib import Path

from apikeys.gate import metrics, policy
from apikeys.gate.call import FORWARDED_FOR, NOT_FOUND, OK, UNAVAILABLE, Answer, Call, Reply
from apikeys.gate.configuration import GateConfiguration
from apikeys.gate.lookup import Found, Lookup, Result, Unavailable
from apikeys.gate.postgres import PostgresLookup
from apikeys.gate.sqlite import SqliteLookup
from apikeys.keys.status import Status, status_of
from apikeys.keys.tombstones import Tombstones
from apikeys.metering.counter import CallCounter, pack_address
from console.proxies import caller_address

VERIFY, METRICS = b"/verify", b"/metrics"
NO_DIGEST = bytes(32)  # of no key
MAX_ADDRESS = 256  # bytes; more than any form of an address takes
LOG_SECONDS = 10  # between two lines of one worker that say the same
CANNOT_ANSWER = "Calls are answered 503: %s"
ACTIVE_AGAIN = "The API key %s was deleted, and the database has it active: its calls are denied as before."
WITHOUT_FILE = "%s: %s. A key that was deleted, and that is made active in the database, may be accepted."
logger = logging.getLogger(__name__)


def path_of(target: bytes) -> bytes:
    """The path of a call, whatever the form of its target."""
    if not target.startswith(b"/"):  # RFC 9112, 3.2.2: the absolute form has to be accepted
        target = b"/" + target.partition(b"://")[2].partition(b"/")[2]
    return target.partition(b"?")[0]


class Gate:
    """One for each worker, created after the fork."""

    def __init__(self, configuration: GateConfiguration) -> None:
        self.configuration = configuration
        database = configuration.database
        self.lookup: Lookup = SqliteLookup(database) if isinstance(database, Path) else PostgresLookup(database)
        self.counter = CallCounter(configuration.metering_dir)
        self.digests = configuration.digests
        self.tombstones = Tombstones(configuration.deleted_keys_file)
        if self.tombstones.problem:
            logger.error(WITHOUT_FILE, configuration.deleted_keys_file, self.tombstones.problem)
        # unnoticed mutants (2): how many addresses are remembered, not which.
        self.packed_address = lru_cache(4096)(self.uncached_address)
        self.logged_at: dict[str, float] = {}  # by message

    def close(self) -> None:
        self.tombstones.close()
        self.counter.close()
        self.lookup.close()

    def handle(self, call: Call, reply: Reply) -> None:
        """Answer a call, at once or when the database has answered."""
        # unnoticed mutants (1): the same for all paths, and faster for most calls.
        path = call.path if call.path == VERIFY else path_of(call.path)
        if path == VERIFY or path.startswith(b"/verify/"):  # Envoy appends the path of the call
            self.verify(call, reply)
        elif path == METRICS and self.configuration.metrics_port is None:
            reply(metrics.answer(self.configuration.metering_dir))
        elif path == b"/healthz":
            reply(policy.text(OK, "ok"))
        elif path == b"/readyz":
            self.lookup.find([NO_DIGEST], lambda result: reply(self.readiness(result)))
        else:
            reply(policy.failure(NOT_FOUND, "The gate answers at /verify."))

    def handle_scrape(self, call: Call, reply: Reply) -> None:
        """Answer a call at the port of the metrics."""
        if path_of(call.path) == METRICS:
            reply(metrics.answer(self.configuration.metering_dir))
        else:
            reply(policy.failure(NOT_FOUND, "Only the metrics are here, at /metrics."))

    def verify(self, call: Call, reply: Reply) -> None:
        try:
            key = policy.key_in(call.headers)
        except policy.Refused as refused:
            reply(policy.refuse(refused.status))
            return
        digests = self.digests("api-key", key)
        self.lookup.find(digests, lambda result: reply(self.judge(call, digests, result)))

    def judge(self, call: Call, digests: list[bytes], result: Result) -> Answer:
        """The answer to a call whose key was looked up; counts the call."""
        if isinstance(result, Found):
            deleted = result.deleted
            if not deleted and self.tombstones.have(digests):
                deleted = True
                self.lookup.find(digests, self.warn)  # anew: it may just have been deleted
            status = status_of(deleted=deleted, disabled=result.disabled, expires_at=result.expires_at, now=time.time())
            active = status is Status.ACTIVE
            try:
                self.counter.count(result.key_id, active, self.caller(call))
            except OSError as error:
                return self.unavailable(str(error))
            return policy.accept(result.key_id, result.account_id) if active else policy.refuse(status)
        if isinstance(result, Unavailable):
            return self.unavailable(result.reason)
        return policy.refuse(Status.UNKNOWN)

    def warn(self, result: Result) -> None:
        """Of a key that the file of deleted keys has, where the database has it active."""
        if isinstance(result, Found) and not result.deleted:
            self.log(ACTIVE_AGAIN, str(uuid.UUID(bytes=result.key_id)))

    def readiness(self, result: Result) -> Answer:
        """Whether a call could be answered and counted, a deleted key's too; `result` is that of a look-up."""
        self.tombstones.look()
        problem = "the database cannot be queried" if isinstance(result, Unavailable) else self.tombstones.problem
        try:
            self.counter.check()
        except OSError:
            problem = problem or "calls cannot be counted"
        return policy.text(UNAVAILABLE, problem) if problem else policy.text(OK, "ok")

    def caller(self, call: Call) -> bytes:
        """The caller's address, packed."""
        # unnoticed mutants (1): another text that is no address.
        forwarded_for = b""
        for name, value in call.headers:
            if name == FORWARDED_FOR:
                forwarded_for = value.rpartition(b",")[2]  # the rest may be forged, and must not fill the cache
        return self.packed_address(call.peer, forwarded_for[:MAX_ADDRESS])

    def uncached_address(self, peer: str, forwarded_for: bytes) -> bytes:
        trusted = self.configuration.trusted_proxies
        # unnoticed mutants (1): the names of encodings may be in capitals.
        return pack_address(caller_address(peer, forwarded_for.decode("latin-1"), trusted))

    def unavailable(self, reason: str, message: str = policy.CANNOT_CHECK) -> Answer:
        """503, and why in the log."""
        self.log(CANNOT_ANSWER, reason)
        return policy.unavailable(message)

    def log(self, message: str, what: str) -> None:
        """Now and then: a line for each call would fill the disk."""
        now = time.monotonic()
        # unnoticed mutants (1): the clock does not stop at that instant.
        if now - self.logged_at.get(message, -inf) > LOG_SECONDS:
            self.logged_at[message] = now
            logger.error(message, what)
