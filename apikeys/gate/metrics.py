"""What the gate's workers did, for Prometheus: numbers in memory that all workers of one gunicorn share.

The memory is mapped when gunicorn loads the worker class, before it forks. A worker writes to a slot of its own, so
that no two writers meet, and whichever worker is asked reads all of them. The numbers of a killed worker stay.
Restarting gunicorn begins at 0.
"""

import mmap
import os
import time
from bisect import bisect_left
from functools import lru_cache
from pathlib import Path

from apikeys.gate.call import OK, Answer
from apikeys.keys.status import REFUSALS
from apikeys.metering.counter import began_at

ACCEPTED, UNAVAILABLE, OTHER = "accepted", "unavailable", "other"
LABELS = (ACCEPTED, *(status.value for status in REFUSALS), UNAVAILABLE, OTHER)
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5)  # seconds
SLOTS = 64  # more workers than this share one, and may lose a count
# A slot: calls by label, calls by bucket (and those above the last), nanoseconds in total.
BY_LABEL = {label: place for place, label in enumerate(LABELS)}
FIRST_BUCKET = len(LABELS)
WORDS = FIRST_BUCKET + len(BUCKETS) + 2

memory = memoryview(mmap.mmap(-1, SLOTS * WORDS * 8)).cast("Q")


class Metrics:
    """One worker's."""

    def __init__(self, worker: int) -> None:
        self.slot = worker % SLOTS * WORDS

    def answered(self, label: str, seconds: float) -> None:
        memory[self.slot + BY_LABEL[label]] += 1
        memory[self.slot + FIRST_BUCKET + bisect_left(BUCKETS, seconds)] += 1
        memory[self.slot + WORDS - 1] += int(seconds * 1e9)


def answer(metering: Path) -> Answer:
    return Answer(OK, b"content-type: text/plain; version=0.0.4; charset=utf-8\r\n", render(metering), OTHER)


@lru_cache(1)
def waiting(metering: Path, second: int) -> list[int]:
    """When the files of counted calls were begun that are not in the database yet. While it is down they become many:
    the folder is read once in a second, whoever asks."""
    try:
        return [at for name in os.listdir(metering) if (at := began_at(name))]
    except OSError:
        return []


def render(metering: Path) -> bytes:
    """All workers' numbers in Prometheus' text format, and how far the database lags behind the counted calls."""
    sums = [sum(memory[word::WORDS]) for word in range(WORDS)]
    lines = ["# HELP gate_calls_total Calls by answer.", "# TYPE gate_calls_total counter"]
    lines += [f'gate_calls_total{{answer="{label}"}} {sums[place]}' for label, place in BY_LABEL.items()]
    lines += [
        "# HELP gate_call_seconds Time from a call's arrival to its answer.",
        "# TYPE gate_call_seconds histogram",
    ]
    calls = 0
    for place, bound in enumerate((*BUCKETS, "+Inf"), FIRST_BUCKET):
        calls += sums[place]
        lines.append(f'gate_call_seconds_bucket{{le="{bound}"}} {calls}')
    lines += [f"gate_call_seconds_sum {sums[-1] / 1e9}", f"gate_call_seconds_count {calls}"]
    began = waiting(metering, int(time.monotonic()))
    lines += [
        "# HELP gate_metering_files Files of counted calls that are not in the database yet.",
        "# TYPE gate_metering_files gauge",
        f"gate_metering_files {len(began)}",
        "# HELP gate_metering_lag_seconds Age of the oldest of them.",
        "# TYPE gate_metering_lag_seconds gauge",
        f"gate_metering_lag_seconds {max(0.0, time.time() - min(began)) if began else 0.0:.3f}",
    ]
    return "\n".join([*lines, ""]).encode()
