"""``approval-mail demo`` as a person runs it: real processes, on this machine alone."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.rig.waiting import wait_for

#: Seconds. Many times what a demo takes on an idle machine.
WITHIN = 60.0
#: Seconds from the demo's SIGKILL until nothing of it is left; the guards' grace and a busy machine's slack.
GONE_WITHIN = 15.0

PROGRAM = [str(Path(sys.executable).with_name("approval-mail")), "demo"]
SUBJECTS = {
    "[승인 필요] git_commit 도구",
    "[승인됨] git_commit 도구",
    "[거부됨] git_commit 도구",
    "[타임아웃] git_commit 승인 요청",
}
#: A mail's line: seconds since the hook's call, or the time of day of a mail that the demo did not cause.
MAIL_LINE = re.compile(r" +(?P<when>\d+\.\d\d s|\d\d:\d\d:\d\d)  (?P<subject>.+)  ->  (?P<to>\S+)")


class RunningDemo:
    """A demo in a process of its own; its output arrives line by line."""

    def __init__(self, process: subprocess.Popen[str], output: Path) -> None:
        self.process = process
        self._output = output

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first match in the output so far or in what is still to come."""

        def look() -> re.Match[str] | None:
            ended = self.process.poll() is not None
            match = re.search(pattern, self._output.read_text("utf-8"))
            assert match or not ended, self._output.read_text("utf-8")
            return match

        match = wait_for(look, seconds=WITHIN, saying=f"{pattern!r} in the demo's output")
        assert match is not None
        return match


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A working directory whose settings and environment belong to someone's real system."""
    place = tmp_path / "place"
    place.mkdir()
    (place / ".env").write_text("EMAIL_TO=boss@example.com\nSMTP_PORT=1\nCELERY_BROKER_URL=redis://127.0.0.1:1/0\n")
    (tmp_path / "tmp").mkdir()
    return place


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """The demo's folder for temporary files."""
    return tmp_path / "tmp"


@pytest.fixture
def environ(temporary: Path) -> dict[str, str]:
    foreign = {
        "SMTP_HOST": "mail.example.com",
        "SMTP_USER": "someone",
        "NOTIFICATION_ENABLED": "ture",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "CELERY_BROKER_URL": "redis://127.0.0.1:1/0",
    }
    return os.environ | foreign | {"TMPDIR": str(temporary), "PYTHONUTF8": "1"}


@pytest.fixture
def start(place: Path, environ: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., RunningDemo]]:
    processes: list[subprocess.Popen[str]] = []

    def start(*options: str) -> RunningDemo:
        output = tmp_path / "output"
        with output.open("w") as file:
            process = subprocess.Popen(
                [*PROGRAM, *options], cwd=place, env=environ, stdout=file, stderr=subprocess.STDOUT, text=True
            )
        processes.append(process)
        return RunningDemo(process, output)

    yield start
    for process in processes:
        process.kill()
        process.wait()


def descendants(pid: int) -> set[int]:
    """Every process below this one, zombies aside."""
    parents = _living()
    found: set[int] = set()
    while more := {each for each, parent in parents.items() if parent in found | {pid}} - found:
        found |= more
    return found


def _living() -> dict[int, int]:
    """Each process that is no zombie, with its parent."""
    listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = (line.split() for line in listing.splitlines())
    return {int(pid): int(parent) for pid, parent, state in rows if not state.startswith("Z")}


def test_once_shows_the_four_mails_and_leaves_nothing(place: Path, temporary: Path, environ: dict[str, str]) -> None:
    demo = subprocess.run(
        [*PROGRAM, "--once"], cwd=place, env=environ, capture_output=True, text=True, timeout=WITHIN, check=False
    )

    assert demo.returncode == 0, demo.stdout + demo.stderr
    mails = [match for line in demo.stdout.splitlines() if (match := MAIL_LINE.fullmatch(line))]
    assert {match["subject"] for match in mails} == SUBJECTS
    assert {match["to"] for match in mails} == {"operator@localhost"}
    assert len(mails) == 4
    assert all(match["when"].endswith(" s") for match in mails)
    assert mails[0]["subject"].startswith("[승인 필요]"), "the request comes first"
    assert demo.stderr == ""
    assert list(temporary.iterdir()) == []
    assert [each.name for each in place.iterdir()] == [".env"]


def test_the_demo_stays_for_more_mail_until_sigterm(
    start: Callable[..., RunningDemo], temporary: Path, place: Path, environ: dict[str, str]
) -> None:
    demo = start("--lang", "en")
    inbox = demo.wait_for(r"http://127\.0\.0\.1:\d+/")[0]
    redis_url = demo.wait_for(r"REDIS_URL=(redis://127\.0\.0\.1:\d+/0) NOTIFICATION_ENABLED=true")[1]
    demo.wait_for("Ctrl-C ends everything")
    pids = descendants(demo.process.pid)

    emit = (
        "from approval_mail import hooks; "
        "print(hooks.approval_requested(request_id='more', user_id='you', tool_name='git_push').value)"
    )
    theirs = {name: value for name, value in environ.items() if not name.startswith(("SMTP_", "CELERY_"))}
    receipt = subprocess.run(
        [sys.executable, "-c", emit],
        env=theirs | {"REDIS_URL": redis_url, "NOTIFICATION_ENABLED": "true"},
        cwd=temporary,
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert receipt == "accepted\n"
    demo.wait_for(r"\d\d:\d\d:\d\d  .*git_push.*  ->  operator@localhost\n")
    with urllib.request.urlopen(f"{inbox}mails.json", timeout=10) as answer:
        mails = json.load(answer)
    assert len(mails) == 5
    assert "git_push" in mails[0]["subject"]
    assert not any(re.search("[가-힣]", mail["subject"]) for mail in mails)

    demo.process.send_signal(signal.SIGTERM)

    assert demo.process.wait(WITHIN) == 0
    assert pids
    assert not pids & _living().keys()
    assert list(temporary.iterdir()) == []


def test_an_interrupt_while_it_starts_is_a_clean_end(start: Callable[..., RunningDemo], temporary: Path) -> None:
    demo = start()
    demo.wait_for("Celery worker")
    pids = descendants(demo.process.pid)

    demo.process.send_signal(signal.SIGINT)

    assert demo.process.wait(WITHIN) == 0
    demo_output = demo.wait_for("Ending everything").string
    assert "Traceback" not in demo_output
    assert not pids & _living().keys()
    assert list(temporary.iterdir()) == []


def test_nothing_outlives_a_demo_that_is_killed(start: Callable[..., RunningDemo]) -> None:
    demo = start()
    demo.wait_for("Ctrl-C ends everything")
    pids = descendants(demo.process.pid)
    assert len(pids) > 6, "three guards, Valkey, beat, the worker and its pool"

    demo.process.kill()
    demo.process.wait()

    wait_for(lambda: not pids & _living().keys(), seconds=GONE_WITHIN, saying="the end of every process")
