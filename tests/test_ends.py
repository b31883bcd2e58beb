"""`make run` ends, by whatever: nothing of it stays. One start at a time has a data folder."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from console.start import StartError, lock
from console.supervisor import Supervisor
from tests.support.person import Person, wait_for
from tests.support.servers import ROOT, Server, as_another_user, database_address, free_port, running

SECONDS = 10  # within which nothing stays: twice what is promised, for a machine that is busy


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Whatever a test leaves of it is killed."""
    with database_address() as database:
        server = Server(tmp_path / "data", **database)
        try:
            yield server
        finally:
            for pid in server.processes():
                os.kill(pid, signal.SIGKILL)


def twice_to_the_group(server: Server) -> None:
    """As a terminal or a supervisor does to `make run`, which passes it on."""
    for _ in range(2):
        os.killpg(server.process.pid, signal.SIGTERM)


def supervisor(server: Server) -> int:
    found = subprocess.check_output(["pgrep", "-P", str(server.process.pid)], text=True)
    return int(found)


ENDINGS: dict[str, Callable[[Server], object]] = {
    "SIGTERM": lambda server: server.process.terminate(),
    "SIGTERM to the group, twice": twice_to_the_group,
    "SIGINT": lambda server: server.process.send_signal(signal.SIGINT),
    "SIGHUP": lambda server: server.process.send_signal(signal.SIGHUP),
    "SIGKILL": lambda server: server.process.kill(),
    "SIGKILL of the supervisor": lambda server: os.kill(supervisor(server), signal.SIGKILL),
    "SIGTERM of the supervisor": lambda server: os.kill(supervisor(server), signal.SIGTERM),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_whatever_ends_it_ends_all(server: Server, ending: str) -> None:
    server.start()
    assert len(server.processes()) >= 8  # make run, the supervisor, two masters with a worker each, and two programs
    ENDINGS[ending](server)
    wait_for(lambda: not server.processes(), SECONDS)
    assert server.process.wait() == {"SIGKILL": -signal.SIGKILL}.get(ending, int("supervisor" in ending))


def test_after_a_kill_the_next_start_waits_for_what_is_ending(server: Server) -> None:
    server.start()
    server.processes()
    server.process.kill()
    server.process.wait()
    server.start()
    assert server.stop() == 0


@pytest.mark.parametrize("killed", [False, True])
def test_what_does_not_end_is_killed(server: Server, killed: bool) -> None:
    server.start()
    for pid in server.processes() - {server.process.pid, supervisor(server)}:
        os.kill(pid, signal.SIGSTOP)
    server.process.send_signal(signal.SIGKILL if killed else signal.SIGTERM)
    wait_for(lambda: not server.processes(), SECONDS)


def test_a_supervisor_that_does_not_end_is_killed_with_its_servers(server: Server) -> None:
    server.start()
    server.processes()
    os.kill(supervisor(server), signal.SIGSTOP)
    server.process.terminate()
    wait_for(lambda: not server.processes(), SECONDS)
    assert server.process.wait() == 0


def test_a_start_ends_too(server: Server) -> None:
    """At any moment: whatever is there by then."""
    for seconds in (0.05, 0.2, 0.4, 0.8, 1.2, 1.6, 2.0, 2.4):
        server.run()
        time.sleep(seconds)
        server.processes()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(SECONDS) in (0, -signal.SIGTERM)  # before Python has come up, nothing listens
        assert not server.processes()
    server.start()


def master(server: Server, name: str) -> int:
    found = subprocess.check_output(["pgrep", "-P", str(supervisor(server)), "-f", name], text=True)
    return int(found)


@pytest.mark.parametrize(
    ("name", "process", "signum", "how"),
    [
        ("Gate", "apikeys.gate", signal.SIGKILL, "SIGKILL"),
        ("Console", "console.wsgi", signal.SIGTERM, "exit status 0"),
        ("Housekeeping", "housekeep", signal.SIGKILL, "SIGKILL"),
        ("Metering", "meter", signal.SIGTERM, "exit status 0"),
    ],
)
def test_a_server_that_ends_by_itself_is_named_and_ends_all(
    server: Server, name: str, process: str, signum: int, how: str
) -> None:
    server.start()
    os.kill(master(server, process), signum)
    assert server.process.wait(10) == 1
    assert not server.processes()
    last = server.errors.read_text().splitlines()[-1]
    assert last.startswith(f"{name} ended unexpectedly") and how in last


class TestTheFolder:
    def test_of_two_first_starts_one_serves_and_the_other_names_it(self, tmp_path: Path) -> None:
        with database_address() as database:
            one, other = (Server(tmp_path / "data", **database) for _ in range(2))
            other.output, other.errors = tmp_path / "other.out", tmp_path / "other.err"
            both = [one, other]
            for server in both:
                server.run()
            wait_for(lambda: any(server.process.poll() is not None for server in both), 60)
            loser, winner = sorted(both, key=lambda server: server.process.poll() is None)
            try:
                assert loser.process.returncode == 1
                assert loser.errors.read_text() == (
                    f"{tmp_path / 'data'} is in use by process {winner.process.pid}, which serves {winner.address}. "
                    "Stop that process, or set CONSOLE_DATA_DIR to another folder.\n"
                )
                winner.wait_until_serving()
                with Person(winner.address) as owner:
                    owner.log_on().create()
            finally:
                assert winner.stop() == 0

    def test_a_later_start_changes_nothing(self, tmp_path: Path) -> None:
        with running(tmp_path / "data") as server:
            before = {file: file.stat().st_mtime_ns for file in (tmp_path / "data").glob("[!c]*")}
            ended = subprocess.run(
                [sys.executable, "-m", "console.start"],
                cwd=ROOT,
                env=server.environment,
                capture_output=True,
                text=True,
            )
            assert ended.returncode == 1 and f"process {server.process.pid}, which serves" in ended.stderr
            assert before == {file: file.stat().st_mtime_ns for file in (tmp_path / "data").glob("[!c]*")}


def listening(port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.once
class TestTheLock:
    @pytest.fixture
    def held(self, tmp_path: Path) -> Iterator[Path]:
        """By this process."""
        with (tmp_path / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield tmp_path / "lock"

    def test_a_process_of_another_user_lives(self) -> None:
        with as_another_user():
            assert lock.is_alive("1")

    @pytest.mark.parametrize("content", ["", f"{2**30}, which serves http://127.0.0.1:8000\n"])
    def test_it_does_not_wait_for_ever(self, held: Path, content: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lock, "STOP_SECONDS", 0.1)
        held.write_text(content)
        with pytest.raises(StartError, match="is in use by process"):
            lock.take(held.parent, "serves http://127.0.0.1:8001")


@pytest.mark.once
class TestTheSupervisor:
    def test_nothing_is_started_where_the_line_is_closed_already(self) -> None:
        ours, theirs = socket.socketpair()
        ours.close()
        assert Supervisor(theirs).run(1, 2) == 0

    def test_a_server_that_does_not_answer_is_named(
        self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("console.supervisor.START_SECONDS", 0)
        monkeypatch.setattr("console.supervisor.answers", lambda port: False)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            assert Supervisor(theirs).run(free_port(), free_port()) == 1
        assert "Gate did not answer within 0 s." in capfd.readouterr().err


def test_a_server_that_ends_before_it_answers_is_named(server: Server) -> None:
    server.run()
    wait_for(
        lambda: subprocess.run(["pgrep", "-P", str(server.process.pid)], stdout=subprocess.DEVNULL).returncode == 0
    )
    wait_for(lambda: subprocess.run(["pgrep", "-P", str(supervisor(server)), "-f", "meter"]).returncode == 0)
    os.kill(master(server, "meter"), signal.SIGKILL)
    assert server.process.wait(60) == 1
    assert server.errors.read_text().splitlines()[-1].startswith("Metering ended unexpectedly on SIGKILL.")
    assert "Console:" not in server.output.read_text()


def test_nohup_is_respected(server: Server) -> None:
    """SIGHUP, ignored by whoever started it, stays so."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        server.start()
    finally:
        signal.signal(signal.SIGHUP, before)
    server.process.send_signal(signal.SIGHUP)
    with Person(server.address) as owner:
        owner.log_on()
    assert server.stop() == 0


def test_the_first_page_can_be_used(server: Server) -> None:
    """From the first connection on, the account is there, and the gate."""
    server.run()
    wait_for(lambda: listening(server.port), 60)
    assert server.execute("SELECT username FROM console_user") == [("root",)]
    assert httpx.get(f"http://127.0.0.1:{server.gate_port}/verify").status_code == 401
    with Person(server.address) as owner:
        owner.log_on().create()
    assert server.stop() == 0
