"""Whether a deleted key is ever accepted again: callers keep several gate workers busy while keys are deleted."""

import asyncio
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from tests.support.gates import Callers, Gate, new_key
from tests.support.waiting import wait_for


@dataclass
class Result:
    deletions: int
    accepted: int = 0  # calls accepted before their key was deleted
    refused: int = 0  # calls refused after it
    leaked: int = 0  # calls that began after it and were accepted

    def __str__(self) -> str:
        return (
            f"{self.deletions} deletions: {self.leaked} calls that began after one were accepted "
            f"({self.accepted} accepted before, {self.refused} refused after)"
        )


def measure(folder: Path, deletions: int, at_once: int = 8, workers: int = 3, progress: bool = False) -> Result:
    """Delete that many keys through ApiKey.delete, each while its caller is being accepted."""
    result = Result(deletions)
    with Gate(folder, workers=workers) as gate:
        while deletions > 0:
            made = [new_key() for _ in range(min(at_once, deletions))]
            deleted_at: dict[str, float] = {}
            refused: set[str] = set()
            callers = Callers(gate.port, [secret for _, secret in made])

            def watch(
                secret: str,
                began: float,
                status: int,
                deleted_at: dict[str, float] = deleted_at,
                refused: set[str] = refused,
            ) -> None:
                after = began > deleted_at.get(secret, began)
                if status != 200:
                    refused.add(secret)
                result.accepted += status == 200 and not after
                result.leaked += status == 200 and after
                result.refused += status != 200

            callers.watch = watch
            thread = threading.Thread(target=asyncio.run, args=[callers.run()])
            thread.start()
            for key, secret in made:
                before = callers.accepted[secret]
                wait_for(lambda: callers.accepted[secret] > before)  # noqa: B023
                key.revoke()
                deleted_at[secret] = time.monotonic()
            wait_for(lambda: len(refused) == len(made))  # noqa: B023
            callers.stopped = True
            thread.join()
            deletions -= len(made)
            if progress:
                print(f"\r{result.deletions - deletions} of {result.deletions}", end="", file=sys.stderr, flush=True)
    return result
