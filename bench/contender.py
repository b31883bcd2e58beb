"""One server that is asked for a while by wrk, and what that cost."""

import contextlib
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.servers import ROOT, free_port
from tests.support.waiting import wait_for

TICKS = os.sysconf("SC_CLK_TCK")
GUNICORN = [sys.executable, "-m", "gunicorn", "--no-control-socket", "--log-level", "error"]


@dataclass
class Contender:
    name: str
    words: list[str]  # gunicorn's
    environment: dict[str, str]
    keys: Path
    postmaster: int = 0  # whose processes work for it too
    meter: int = 0  # the process that adds its calls to the database
    path: str = "/verify"
    header: str = "dashvector-auth-token"
    prefix: str = ""
    port: int = field(default_factory=free_port)
    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    database_cpu: list[float] = field(default_factory=list)
    metering_cpu: list[float] = field(default_factory=list)
    latency: list[tuple[float, float]] = field(default_factory=list)
    errors: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}"

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        command = [*GUNICORN, "-w", "2", "-b", f"127.0.0.1:{self.port}", *self.words]
        self.process = subprocess.Popen(command, cwd=ROOT, env=os.environ | self.environment)
        try:
            wait_for(lambda: self.status("nonsense") > 0)
            good, bad = self.status(self.keys.read_text().split()[0]), self.status("nonsense")
            assert good == 200 and (bad != 200 or "bare" in self.name), (self.name, good, bad)
            yield
        finally:
            self.process.terminate()
            self.process.wait(60)

    def status(self, key: str) -> int:
        request = urllib.request.Request(self.url, headers={self.header: self.prefix + key})
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def round(self, seconds: int) -> None:
        words = ["-t1", "-c16", f"-d{seconds}", "--latency", "-s", str(ROOT / "bench" / "load.lua"), self.url, "--"]
        parts = (self.process.pid, self.postmaster, self.meter)
        before = [cpu_of(part) for part in parts]
        load = subprocess.run(
            ["wrk", *words, str(self.keys), self.header, self.prefix], capture_output=True, text=True, check=True
        ).stdout
        wait_for(self.counted, 120)
        calls = int(found(r"(\d+) requests in", load))
        spent = [(cpu_of(part) - used) / calls * 1e6 for part, used in zip(parts, before, strict=True)]
        self.cpu.append(spent[0])
        self.database_cpu.append(spent[1])
        self.metering_cpu.append(spent[2])
        self.rates.append(float(found(r"Requests/sec:\s+([\d.]+)", load)))
        self.latency.append(
            (milliseconds(found(r"\n\s+50%\s+(\S+)", load)), milliseconds(found(r"\n\s+99%\s+(\S+)", load)))
        )
        self.errors += sum(
            map(int, re.findall(r"(?:Non-2xx or 3xx responses:|connect|read|write|timeout) (\d+)", load))
        )

    def counted(self) -> bool:
        """Whether every call is in the database."""
        folder = Path(self.environment.get("CONSOLE_DATA_DIR", "/nonexistent")) / "metering"
        return not self.meter or not any(folder.glob("*.calls"))

    def forget(self) -> None:
        """Drop what was measured so far."""
        for measured in (self.rates, self.cpu, self.database_cpu, self.metering_cpu, self.latency):
            measured.clear()


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, text
    return match[1]


def milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process and all below it have used, those that have ended included."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split() if pid else []
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() if pid else ["0"] * 15
    except (FileNotFoundError, ProcessLookupError):  # ended between its parent's list and here: the parent has its time
        return 0.0
    return sum(map(int, stat[11:15])) / TICKS + sum(cpu_of(int(child)) for child in children)
