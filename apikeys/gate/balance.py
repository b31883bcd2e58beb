"""New connections spread over the workers: one that has more than another lets the others accept first.

The kernel wakes all workers for a new connection, and the fastest takes it: on an idle machine mostly the same one.
The memory is shared for the same reason as that of the metrics: gunicorn loads the worker class before it forks.
"""

import mmap
import time

SLOTS = 64  # more workers than this share one, and spread less evenly
WORDS = 3  # of a slot: time of the last beat (time.monotonic, in seconds), open connections, accepted connections
ALIVE_SECONDS = 3
TOLERANCE = 8  # a worker may have an eighth more than another

memory = memoryview(mmap.mmap(-1, SLOTS * WORDS * 8)).cast("Q")


class Share:
    """One worker's part of all connections."""

    def __init__(self, worker: int) -> None:
        self.slot = worker % SLOTS * WORDS
        memory[self.slot + 1] = 0
        memory[self.slot + 2] = max(memory[2::WORDS])  # a new worker does not have to catch up
        self.beat()

    def beat(self) -> None:
        """To be called once a second."""
        memory[self.slot] = int(time.monotonic())

    def has_accepted(self) -> None:
        memory[self.slot + 2] += 1

    def has_open(self, connections: int) -> None:
        memory[self.slot + 1] = connections

    def is_ahead(self) -> bool:
        """Whether another worker is alive that has fewer open connections, or as many and accepted fewer."""
        oldest = int(time.monotonic()) - ALIVE_SECONDS
        opened, accepted = memory[self.slot + 1], memory[self.slot + 2]
        for slot in range(0, len(memory), WORDS):
            if slot != self.slot and memory[slot] > oldest:
                their_opened, their_accepted = memory[slot + 1], memory[slot + 2]
                if exceeds(opened, their_opened) or (opened >= their_opened and exceeds(accepted, their_accepted)):
                    return True
        return False


def leave(worker: int) -> None:
    """That worker accepts no more; the others no longer compare themselves with it."""
    memory[worker % SLOTS * WORDS] = 0


def exceeds(mine: int, theirs: int) -> bool:
    return mine > theirs + 1 + theirs // TOLERANCE
