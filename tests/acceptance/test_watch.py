"""``approval-mail status --watch`` on a real terminal, beside a real worker, mail server and Redis."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Run, Start
from tests.conftest import environment
from tests.rig.redis_server import RedisServer, free_port
from tests.rig.smtp_server import SMTPServer
from tests.rig.terminal import Terminal
from tests.rig.waiting import wait_for

Watch = Callable[..., Terminal]
Emit = Callable[..., list[str]]
Stream = Callable[[int], list[dict[str, Any]]]
#: What a terminal is told to leave the page and get its cursor back.
LEFT = (b"\x1b[?1049l", b"\x1b[?25h")


@pytest.fixture
def watch(settings: dict[str, str], tmp_path: Path) -> Iterator[Watch]:
    """Open the page on a terminal of its own; it ends with the test."""
    opened: list[Terminal] = []

    def open_page(*arguments: str, columns: int = 100, lines: int = 30, without: str = "", **changes: str) -> Terminal:
        opened.append(
            Terminal(
                "approval_mail.cli",
                "status",
                "--watch",
                "--interval=0.5",
                *arguments,
                folder=tmp_path,
                settings={**settings, "NOTIFICATION_TIMEZONE": "Asia/Seoul", **changes},
                columns=columns,
                lines=lines,
                without=without,
            )
        )
        return opened[-1]

    yield open_page
    for terminal in opened:
        terminal.__exit__()


@pytest.fixture
def streaming(settings: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start ``status --watch --json``, which another program reads; it ends with the test."""
    running: list[subprocess.Popen[str]] = []

    def begin(**changes: str) -> subprocess.Popen[str]:
        code = "from approval_mail.cli import main; main()"
        command = [sys.executable, "-c", code, "status", "--watch", "--json", "--interval=0.5"]
        running.append(
            subprocess.Popen(
                command, cwd=tmp_path, env={**settings, **changes}, stdout=subprocess.PIPE, text=True, encoding="utf-8"
            )
        )
        return running[-1]

    yield begin
    for program in running:
        program.kill()
        program.communicate()


@pytest.fixture
def stream(streaming: Callable[..., subprocess.Popen[str]]) -> Stream:
    """The first lines of JSON, so many of them."""

    def read(count: int) -> list[dict[str, Any]]:
        program = streaming()
        assert program.stdout is not None
        return [json.loads(program.stdout.readline()) for _ in range(count)]

    return read


def is_left_as_it_was(terminal: Terminal) -> bool:
    return terminal.mode_now() == terminal.mode and all(code in terminal.written[-200:] for code in LEFT)


def lines_with(shown: list[str], *texts: str) -> list[str]:
    return [line for line in shown if all(text in line for text in texts)]


def test_a_451_a_550_and_a_suppressed_mail_are_told_as_they_happened(
    watch: Watch, start: Start, admin: Run, emit: Emit, stream: Stream, smtp: SMTPServer
) -> None:
    smtp.on("rcpt", "451 4.3.0 try later", recipient="grey@example.com", times=1)
    smtp.on("rcpt", "550 5.1.1 no such user", recipient="typo@example.com")
    terminal = watch(columns=80, lines=24)
    terminal.wait_for("Mail is NOT going out: no worker consumes the queue", "celery -A approval_mail worker")
    # Before there is a worker, so that it is moot at its first try.
    assert admin("request", "--user", "kim", "--tool", "t", "--id", "moot-1", "--to", "a@example.com").returncode == 0
    assert admin("approve", "moot-1", "--as", "lee").returncode == 0
    terminal.wait_for("pending 2  deferred 0  claimed 0")
    start("worker", EMAIL_TO="b@example.com").ready()
    emit([("approval_approved", "grey-1-of-many")], email_to=["grey@example.com"])
    emit([("approval_rejected", "typo-1-of-many")], email_to=["typo@example.com"])
    shown = terminal.wait_for("sent 2  dead 1  suppressed 1", "workers    1")
    assert lines_with(shown, "suppressed", "1 moot: already approved")
    assert lines_with(shown, "dead", "1 in rcpt")
    assert lines_with(shown, "failed", "grey-1-o grey@example.com", "rcpt 451 4.3.0 try later")
    assert lines_with(shown, "dead", "typo-1-o typo@example.com", "rcpt 550 5.1.1 no such user")
    assert lines_with(shown, "half within", "of 2 mails")
    terminal.wait_for("CHECK  Mail is going out, but beat has never been seen", seconds=10)
    start("beat")
    terminal.wait_for("CHECK  Mail is going out, but 1 mail died in the last minutes", "dead list")
    [line] = stream(1)
    assert sorted((found["code"], found["phase"], found["result"]) for found in line["failures"]) == [
        (451, "rcpt", "failed"),
        (550, "rcpt", "dead"),
    ]


def test_a_held_channel_says_since_when_why_and_what_to_do(watch: Watch, start: Start, emit: Emit) -> None:
    start("worker", SMTP_PORT=str(free_port())).ready()
    start("beat")
    terminal = watch(columns=120, lines=36)
    emit([("approval_requested", "abc12345")])
    shown = terminal.wait_for("STOPPED  Mail is NOT going out: the channel has been held since", seconds=40)
    text = " ".join(" ".join(line.strip("│ ") for line in shown).split())
    assert "Connection refused" in text
    assert "next step: check SMTP_HOST" in text
    assert lines_with(shown, "channel    HELD since 20")
    terminal.wait_for("deferred        1")


def test_a_lost_redis_is_told_and_the_page_recovers_by_itself(
    watch: Watch, start: Start, own_redis: RedisServer, smtp: SMTPServer, tmp_path: Path
) -> None:
    settings = environment(own_redis, smtp, tmp_path)
    start("worker", **settings).ready()
    start("beat", **settings)
    terminal = watch(**settings)
    terminal.wait_for("OK  Mail is going out", "workers    1")
    own_redis.kill()
    shown = terminal.wait_for("STOPPED  Redis has been unusable since", "last seen")
    assert lines_with(shown, "channel    open"), "what was seen last stays"
    terminal.wait_for("workers    CANNOT BE ASKED")
    own_redis.start()
    terminal.wait_for("OK  Mail is going out", "as of", "workers    1", seconds=60)


def test_a_redis_that_hangs_neither_stops_the_page_nor_its_end(
    watch: Watch, own_redis: RedisServer, smtp: SMTPServer, tmp_path: Path
) -> None:
    terminal = watch(**environment(own_redis, smtp, tmp_path))
    terminal.wait_for("STOPPED  Mail is NOT going out: no worker")
    own_redis.signal(signal.SIGSTOP)
    terminal.wait_for("CHECK  Redis has not answered for ")
    terminal.press("q")
    assert terminal.exit_code(3) == 0
    assert is_left_as_it_was(terminal)


def test_a_lost_broker_is_told_and_comes_back(
    watch: Watch, start: Start, own_redis: RedisServer, redis_server: RedisServer, emit: Emit, smtp: SMTPServer
) -> None:
    broker = {"CELERY_BROKER_URL": own_redis.url, "CELERY_RESULT_BACKEND": own_redis.url}
    start("worker", **broker).ready()
    start("beat", **broker)
    terminal = watch(**broker)
    terminal.wait_for("OK  Mail is going out", "workers    1")
    own_redis.kill()
    terminal.wait_for("STOPPED  Mail is NOT going out: the broker cannot be used", "CELERY_BROKER_URL")
    own_redis.start()
    terminal.wait_for("OK  Mail is going out", "workers    1", seconds=60)


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(lambda terminal: terminal.press("q"), id="q"),
        pytest.param(lambda terminal: terminal.press("\x03"), id="Ctrl-C"),
        pytest.param(lambda terminal: terminal.process.send_signal(signal.SIGINT), id="SIGINT"),
        pytest.param(lambda terminal: terminal.process.send_signal(signal.SIGTERM), id="SIGTERM"),
    ],
)
def test_the_page_ends_with_0_and_leaves_the_terminal_as_it_was(watch: Watch, end: Callable[[Terminal], None]) -> None:
    terminal = watch()
    terminal.wait_for("no worker")
    assert terminal.mode_now() != terminal.mode, "keys are given at once and not shown"
    assert terminal.mode_now()[6][termios.VSUSP] == b"\0", "Ctrl-Z would leave a shell with the page"
    end(terminal)
    assert terminal.exit_code() == 0
    assert is_left_as_it_was(terminal)


def test_the_page_follows_its_window(watch: Watch) -> None:
    terminal = watch(columns=120, lines=36, COLUMNS="200", LINES="60")
    terminal.wait_for("╭─ Last failures ─", "no worker consumes", f"╰{'─' * 118}╯")
    assert terminal.shown()[-1] == f"╰{'─' * 118}╯"
    for columns, lines in ((60, 24), (40, 10)):
        terminal.resize(columns, lines)
        shown = terminal.wait_for("STOPPED", "workers    NONE")
        assert not lines_with(shown, "╭")
    terminal.resize(108, 30)
    terminal.wait_for("╭─ Last failures ─", "STOPPED", f"╰{'─' * 106}╯")
    assert terminal.shown()[-1] == f"╰{'─' * 106}╯"


def test_colours_are_left_out_where_nobody_wants_them(watch: Watch) -> None:
    plain, coloured = watch(NO_COLOR="1"), watch()
    plain.wait_for("STOPPED  Mail is NOT going out")
    coloured.wait_for("STOPPED  Mail is NOT going out")
    assert plain.colours() == {"default"}
    assert "red" in coloured.colours()


def test_where_there_is_no_terminal_it_says_what_to_do_instead(run: Run, watch: Watch) -> None:
    done = run("status", "--watch")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "status --watch draws on a terminal: add --json for a line of JSON each time\n"
    dumb = watch(TERM="dumb")
    dumb.wait_for("status --watch draws on a terminal: add --json")
    assert dumb.exit_code() == 2


def test_without_the_extra_it_says_what_to_install(watch: Watch) -> None:
    terminal = watch(without="rich")
    terminal.wait_for("this needs the extra watch: in the checkout, pip install '.[watch]'")
    assert terminal.exit_code() == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--interval", "1"), "--interval goes with --watch"),
        (("--watch", "--json", "--interval", "0.1"), "0.5<=x<=60"),
        (("--watch", "--json", "--interval", "61"), "0.5<=x<=60"),
        (("--watch", "--json", "--interval", "nan"), "0.5 to 60 seconds"),
    ],
)
def test_wrong_usage_gets_a_sentence_and_exit_code_2(run: Run, arguments: tuple[str, ...], says: str) -> None:
    done = run("status", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr


def test_each_line_of_json_is_that_of_status_and_more(
    streaming: Callable[..., subprocess.Popen[str]], run: Run, start: Start, emit: Emit
) -> None:
    start("worker").ready()
    emit([("approval_approved", f"abc-{number}") for number in range(8)])
    program, lines = streaming(), list[dict[str, Any]]()
    assert program.stdout is not None
    while len(lines) < 6 or (lines[-1]["sent"], lines[-1]["workers"]) != (8, 1):
        lines.append(json.loads(program.stdout.readline()))
        assert len(lines) <= 120, lines[-1]
    usual = wait_for(lambda: (found := json.loads(run("status", "--json").stdout))["workers"] == 1 and found)
    assert [set(line) for line in lines] == [{*usual, "throughput", "pending_by_age", "failures"}] * len(lines)
    seen = [line for line in lines if (line["sent"], line["workers"]) == (8, 1)]
    assert all({**line, **moving(line)} == {**usual, **moving(line)} for line in seen)
    assert [group["below_seconds"] for group in lines[-1]["pending_by_age"]] == [5, 30, 120, 600, None]
    assert lines[-1]["throughput"]["recorded_per_second"] is not None


def test_each_line_of_json_is_a_look_of_its_own(stream: Stream, emit: Emit) -> None:
    emit([("approval_approved", "abc-1")])
    lines = stream(12)
    assert len({line["oldest_pending_seconds"] for line in lines}) == 12
    assert [line["workers"] for line in lines] == [0] * 12


def moving(line: dict[str, Any]) -> dict[str, Any]:
    """What another look a moment later may tell otherwise, and what `status` alone does not tell."""
    return {
        name: line[name]
        for name in ("throughput", "pending_by_age", "failures", "beat_seconds_ago", "oldest_pending_seconds")
    }


def test_lines_of_json_go_on_while_redis_is_lost(
    own_redis: RedisServer, smtp: SMTPServer, tmp_path: Path, streaming: Callable[..., subprocess.Popen[str]]
) -> None:
    program = streaming(**environment(own_redis, smtp, tmp_path))
    assert program.stdout is not None
    assert json.loads(program.stdout.readline())["pending"] == 0
    own_redis.kill()
    while "error" not in (line := json.loads(program.stdout.readline())):
        pass
    assert list(line) == ["error"]
    assert line["error"].startswith("Redis cannot be used (")
    own_redis.start()
    while "error" in (line := json.loads(program.stdout.readline())):
        pass
    assert line["pending"] == 0
    program.send_signal(signal.SIGINT)
    assert program.wait(10) == 0
