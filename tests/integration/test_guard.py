"""What runs under the guard ends with its starter, whichever way that one ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from approval_mail.demo.processes import DemoFailed, GuardedProcess, stop_together
from tests.rig.waiting import wait_for

#: Seconds. Far more than anything here takes.
WITHIN = 20.0

#: Says its own process id and that of a child, then waits for the child.
FAMILY = ["sh", "-c", "sleep 1000 & echo family $$ $! ready; wait"]


def running(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def family(log: Path) -> list[int]:
    """The process ids that FAMILY wrote."""
    wait_for(lambda: log.exists() and "ready" in log.read_text(), saying="the family is up")
    words = log.read_text().split()
    return [int(word) for word in words[words.index("family") + 1 : words.index("ready")]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., GuardedProcess]]:
    started: list[GuardedProcess] = []

    def start(command: list[str], name: str = "command") -> GuardedProcess:
        process = GuardedProcess(name, command, folder=tmp_path)
        started.append(process)
        return process

    yield start
    stop_together(*started)


def test_a_command_and_its_children_end_when_they_are_let_go(start: Callable[..., GuardedProcess]) -> None:
    process = start(FAMILY)
    pids = family(process.log)
    assert all(running(pid) for pid in pids)

    process.stop()

    assert not any(running(pid) for pid in pids)
    assert process.exit_code == 128 + signal.SIGTERM


def test_a_command_and_its_children_end_when_the_starter_is_killed(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys, time\n"
        "from approval_mail.demo.processes import GuardedProcess\n"
        "process = GuardedProcess('command', sys.argv[2:], folder=pathlib.Path(sys.argv[1]))\n"
        "time.sleep(1000)\n"
    )
    starter = subprocess.Popen([sys.executable, "-c", program, str(tmp_path), *FAMILY])
    try:
        pids = family(tmp_path / "command.log")
    finally:
        starter.kill()
        starter.wait()

    wait_for(lambda: not any(running(pid) for pid in pids), saying="the end of the family")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a command with its killed guard")
def test_a_command_ends_when_the_guard_is_killed(start: Callable[..., GuardedProcess]) -> None:
    process = start(["sh", "-c", "echo family $$ $PPID ready; while :; do sleep 0.05; done"])
    command, guard = family(process.log)

    os.kill(guard, signal.SIGKILL)

    wait_for(lambda: not running(command), saying="the end of the command")


def test_a_command_that_ignores_sigterm_is_killed_after_the_grace(tmp_path: Path) -> None:
    program = "import sys; from approval_mail.demo import guard; guard.GRACE = 0.1; sys.exit(guard.main(sys.argv[1:]))"
    stubborn = ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"]
    with subprocess.Popen(
        [sys.executable, "-c", program, *stubborn], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as guard:
        assert guard.stdin is not None
        assert guard.stdout is not None
        assert guard.stdout.readline() == b"ready\n"
        guard.stdin.close()

        assert guard.wait(WITHIN) == 128 + signal.SIGKILL


def test_the_guard_ends_with_the_commands_exit_code_and_what_the_command_left(
    start: Callable[..., GuardedProcess],
) -> None:
    process = start(["sh", "-c", "sleep 1000 & echo family $! ready; exit 7"])

    wait_for(lambda: process.exit_code is not None, saying="the end of the guard")

    assert process.exit_code == 7
    assert not running(*family(process.log))
    with pytest.raises(DemoFailed, match=r"command ended with exit code 7; its log is .*command\.log"):
        process.check()


def test_one_process_ends_while_its_sibling_runs_on(start: Callable[..., GuardedProcess]) -> None:
    first, second = start(FAMILY, "first"), start(FAMILY, "second")
    pids = family(second.log)

    first.stop()

    assert second.exit_code is None
    assert all(running(pid) for pid in pids)


def test_a_command_that_does_not_exist_is_told_in_the_log(start: Callable[..., GuardedProcess]) -> None:
    process = start(["/no/such/command"])

    with pytest.raises(DemoFailed, match="command ended with exit code 127"):
        process.wait_for_line("never written", WITHIN)

    assert "/no/such/command cannot be started: No such file or directory" in process.log.read_text()


def test_a_line_that_does_not_come_in_time_is_one_sentence(start: Callable[..., GuardedProcess]) -> None:
    process = start(FAMILY)

    with pytest.raises(DemoFailed, match="command was not ready within 0 s; its log is "):
        process.wait_for_line("never written", 0.0)
