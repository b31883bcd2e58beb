"""What the gate's workers did, for Prometheus: numbers in memory that all workers of one gunicorn share.

Made when gunicorn loads the worker class, before it forks; a worker writes to a slot of its own, so that no two writers
meet, and whichever worker is asked reads all. A killed worker's numbers stay. Restarting gunicorn begins at 0.
"""

import mmap
import time
from bisect import bisect_left
from pathlib import Path

from apikeys.metering.counter import SUFFIX, began_at

ANSWERS = ("accepted", "missing", "malformed", "unknown", "deleted", "unavailable", "other")
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5)  # seconds
SLOTS = 64  # more workers than this share one, and may lose a count
WORDS = len(ANSWERS) + len(BUCKETS) + 2  # answers, buckets and the last one, nanoseconds in all

memory = memoryview(mmap.mmap(-1, SLOTS * WORDS * 8)).cast("Q")


class Metrics:
    """One worker's."""

    def __init__(self, worker: int) -> None:
        self.start = worker % SLOTS * WORDS

    def answered(self, answer: str, seconds: float) -> None:
        memory[self.start + ANSWERS.index(answer)] += 1
        memory[self.start + len(ANSWERS) + bisect_left(BUCKETS, seconds)] += 1
        memory[self.start + WORDS - 1] += round(seconds * 1e9)


def render(metering: Path) -> bytes:
    """All workers' numbers in Prometheus' text format, and how far the files of counted calls there lag behind."""
    sums = [sum(memory[word::WORDS]) for word in range(WORDS)]
    lines = ["# HELP gate_calls_total Calls by answer.", "# TYPE gate_calls_total counter"]
    lines += [f'gate_calls_total{{answer="{name}"}} {sums[n]}' for n, name in enumerate(ANSWERS)]
    lines += [
        "# HELP gate_call_seconds Time from a call's arrival to its answer.",
        "# TYPE gate_call_seconds histogram",
    ]
    below = 0
    for n, bound in enumerate((*BUCKETS, "+Inf")):
        below += sums[len(ANSWERS) + n]
        lines.append(f'gate_call_seconds_bucket{{le="{bound}"}} {below}')
    lines += [f"gate_call_seconds_sum {sums[-1] / 1e9}", f"gate_call_seconds_count {below}"]
    made = [began for path in metering.glob(f"*{SUFFIX}") if (began := began_at(path))]
    lines += [
        "# HELP gate_metering_files Files of counted calls that are not in the database yet.",
        "# TYPE gate_metering_files gauge",
        f"gate_metering_files {len(made)}",
        "# HELP gate_metering_lag_seconds Age of the oldest of them.",
        "# TYPE gate_metering_lag_seconds gauge",
        f"gate_metering_lag_seconds {max(0.0, time.time() - min(made)) if made else 0.0:.3f}",
    ]
    return "\n".join([*lines, ""]).encode()
