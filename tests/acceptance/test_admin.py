"""``approval-admin`` as operators run it."""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import pty
import re
import shlex
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import redis

from approval_mail import hooks, services
from approval_mail.approvals import Approval, Status, desks
from approval_mail.approvals.desk import Desk
from approval_mail.cli.admin.table import columns, left, table
from approval_mail.events import ApprovalEvent
from approval_mail.settings import Settings
from tests.acceptance.conftest import Run
from tests.rig.redis_server import free_port
from tests.rig.waiting import wait_for

PROGRAM = [sys.executable, "-c", "from approval_mail.cli.admin import main; main()"]
#: The same, after it has taken the terminal that its input is: Ctrl-C and a new size then reach it.
ON_TERMINAL = [
    sys.executable,
    "-c",
    "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\nfrom approval_mail.cli.admin import main; main()",
]
KEYS = [
    "request_id", "status", "user_id", "tool_name", "arguments", "requested_at", "expires_at", "ended_at",
    "responder_id", "reason", "told_at", "untold",
]  # fmt: skip


@pytest.fixture
def desk(settings: dict[str, str], tmp_path: Path) -> Desk:
    """The desk of this process, on the programs' server."""
    hooks.configure(Settings.load(settings, tmp_path).require())
    return desks.for_operators()


@pytest.fixture
def begin(settings: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start ``approval-admin ...``; it ends with the test."""
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        running.append(
            subprocess.Popen(
                [*PROGRAM, *arguments],
                cwd=tmp_path,
                env=settings,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def ask(desk: Desk, request_id: str | None = None, *, user: str = "kim", tool: str = "git_commit") -> Approval:
    return desk.ask(user_id=user, tool_name=tool, request_id=request_id)


def test_a_request_is_asked_and_approved_by_its_short_id(admin: Run, desk: Desk, client: redis.Redis) -> None:
    done = admin(
        "request", "--user", "agent-7", "--tool", "git_commit", "--argument", "message=test commit",
        "--argument", 'files:=["a.py"]', "--timeout", "60", "--to", "one@example.com", "--to", "two@example.com",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    request_id = done.stdout.removesuffix("\n")
    asked = desk.read(request_id)
    assert (asked.user_id, asked.tool_name, asked.status) == ("agent-7", "git_commit", Status.PENDING)
    assert asked.arguments == {"message": "test commit", "files": ["a.py"]}
    assert asked.email_to == ("one@example.com", "two@example.com")
    assert asked.expires_at - asked.requested_at == timedelta(seconds=60)

    done = admin("approve", request_id[:8], "--reason", "Approved for testing")

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        f"request {request_id} (git_commit for agent-7) was approved by {getpass.getuser()} at "
    )
    assert done.stdout.endswith(": Approved for testing\n")
    approved = desk.read(request_id)
    assert (approved.status, approved.responder_id) == (Status.APPROVED, getpass.getuser())
    assert approved.reason == "Approved for testing"
    assert client.exists(f"approval_mail:{{store}}:event:{request_id}:approval_approved")

    late = admin("reject", request_id, "--reason", "too late", "--as", "lee", NOTIFICATION_TIMEZONE="Asia/Seoul")

    assert (late.returncode, late.stdout) == (1, "")
    pattern = rf"request {request_id} .* was approved by \S+ at \d+-\d+-\d+ \d+:\d+:\d+ KST: .*; nothing was changed\n"
    assert re.fullmatch(pattern, late.stderr)
    assert desk.read(request_id) == approved


def test_a_rejection_names_its_responder_and_needs_a_reason(admin: Run, desk: Desk) -> None:
    ask(desk, "deploy-1")
    for missing in ((), ("--reason", " ")):
        done = admin("reject", "deploy-1", *missing)
        assert done.returncode == 2
        assert "reason" in done.stderr
        assert desk.read("deploy-1").status is Status.PENDING

    done = admin("reject", "deploy-1", "--reason", "Policy violation", "--as", "이영희", "--json")

    answer = json.loads(done.stdout)
    assert list(answer) == KEYS
    assert (answer["status"], answer["responder_id"], answer["reason"]) == ("rejected", "이영희", "Policy violation")
    assert desk.read("deploy-1").as_json() == answer


def test_an_ambiguous_id_lists_the_candidates_and_decides_nothing(admin: Run, desk: Desk) -> None:
    for name, user in (("deploy-1", "kim"), ("deploy-2", "lee"), ("other-3", "park"), ("dep", "choi")):
        ask(desk, name, user=user)

    done = admin("approve", "deploy")

    assert (done.returncode, done.stdout) == (1, "")
    first, _, *rows = done.stderr.splitlines()
    assert "begins 2 request ids, nothing was done" in first
    assert [row.split()[:4] for row in rows] == [
        ["deploy-1", "pending", "kim", "git_commit"],
        ["deploy-2", "pending", "lee", "git_commit"],
    ]
    assert desk.stats().pending == 4

    short = admin("approve", "oth")
    assert (short.returncode, desk.stats().pending) == (2, 4)
    assert "too short" in short.stderr
    chosen = admin("approve", "dep")
    assert (chosen.returncode, desk.stats().pending) == (1, 4), "whoever asks may choose an id that begins another's"
    assert "give more of yours, or --exact for the first" in chosen.stderr
    assert json.loads(admin("status", "dep", "--json").stdout)["request_id"] == "dep"
    assert admin("approve", "depl", "--exact").returncode == 1
    assert admin("approve", "dep", "--exact").returncode == 0
    assert [desk.read(name).status.value for name in ("dep", "deploy-1")] == ["approved", "pending"]
    unknown = admin("approve", "nobody")
    assert (unknown.returncode, len(unknown.stderr.splitlines())) == (1, 1)
    assert "no request begins with 'nobody'" in unknown.stderr


def test_the_list_shows_pending_requests_or_those_asked_for(admin: Run, desk: Desk) -> None:
    none = admin("list")
    assert (none.returncode, none.stdout) == (0, "")
    assert none.stderr == "no request is pending; those of every status: approval-admin list --all\n"
    for name, user, tool in (("r-1", "kim", "git_commit"), ("r-2", "lee", "git_push"), ("r-3", "kim", "deploy")):
        ask(desk, name, user=user, tool=tool)
    desk.reject("r-1", responder_id="op", reason="no")

    def names(*options: str) -> list[str]:
        return [row["request_id"] for row in json.loads(admin("list", "--json", *options).stdout)]

    assert names() == ["r-3", "r-2"], "newest first"
    assert names("--all", "--user", "kim") == ["r-3", "r-1"]
    assert names("--status", "rejected") == ["r-1"]
    assert names("--tool", "git_push") == ["r-2"]
    assert admin("list", "--status", "rejected", "--all").returncode == 2
    shown = admin("list", "--all", "--limit", "2")
    heading, *rows = shown.stdout.splitlines()
    assert heading.split()[:4] == ["id", "status", "user", "tool"]
    assert [row.split()[:4] for row in rows] == [
        ["r-3", "pending", "kim", "deploy"],
        ["r-2", "pending", "lee", "git_push"],
    ]
    assert re.search(r" [45]:\d\d left$", rows[0])
    assert shown.stderr == "there are more than 2: see them with --limit 20\n"


def test_no_text_of_a_request_commands_the_terminal(admin: Run, desk: Desk, client: redis.Redis) -> None:
    asked = desk.ask(user_id="kim", tool_name="HOSTILE", arguments={"a": "HOSTILE"}, request_id="r-1")
    [key] = client.keys("*approval:r-1")
    [(name, record)] = [item for item in client.hgetall(key).items() if "HOSTILE" in item[1]]
    client.hset(key, name, record.replace("HOSTILE", "\\u001b[2J\\u009b2J\\n\\u202e"))
    assert "\x1b" in desk.read("r-1").tool_name, "what lies in Redis is shown as it is by the desk"

    for arguments in (("list",), ("status", "r-1"), ("list", "--json"), ("approve", "r-1")):
        done = admin(*arguments)
        assert done.returncode == 0
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", done.stdout), arguments
    assert asked.status is Status.PENDING


def test_one_request_is_shown_whole_and_all_are_counted(admin: Run, desk: Desk) -> None:
    desk.ask(user_id="kim", tool_name="git_commit", request_id="deploy-1", arguments={"message": "수정"})
    ask(desk, "deploy-2")

    page = admin("status", "deploy-1").stdout
    assert re.search(r"^status +pending\nuser +kim\ntool +git_commit\n", page, re.MULTILINE)
    assert re.search(r"^time left +4:5\d$", page, re.MULTILINE)
    assert '"message": "수정"' in page

    extended = json.loads(admin("extend", "deploy-1", "60", "--json").stdout)
    assert list(extended) == KEYS
    found = desk.read("deploy-1")
    assert found.expires_at - found.requested_at == timedelta(minutes=6)

    cancelled = admin("cancel", "deploy-1", "--reason", "not needed", "--as", "kim")
    assert re.fullmatch(r"request deploy-1 .* was cancelled by kim at .*: not needed\n", cancelled.stdout)
    assert admin("extend", "deploy-1", "60").returncode == 1

    assert json.loads(admin("status", "--json").stdout) == {
        "pending": 1, "approved": 0, "rejected": 0, "expired": 0, "cancelled": 1, "untold": 0,
    }  # fmt: skip
    assert "pending    1\n" in admin("status").stdout


def test_who_asks_with_wait_is_answered_by_the_exit_code(
    begin: Callable[..., subprocess.Popen[str]], desk: Desk
) -> None:
    waiting = begin("request", "--user", "kim", "--tool", "git_commit", "--id", "r-1", "--wait")
    assert waiting.stdout is not None
    assert waiting.stdout.readline() == "r-1\n", "the id is there at once"
    expiring = begin("request", "--user", "kim", "--tool", "x", "--id", "r-2", "--timeout", "0.3", "--wait", "--json")

    desk.approve("r-1", responder_id="op")

    assert waiting.wait(30) == 0
    assert re.fullmatch(r"request r-1 \(git_commit for kim\) was approved by op at .*\n", waiting.stdout.read())
    answer, error = expiring.communicate(timeout=30)
    assert expiring.returncode == 1
    assert (json.loads(answer)["status"], error) == ("expired", "")


def test_what_cannot_be_done_is_one_sentence(admin: Run, desk: Desk) -> None:
    ask(desk, "r-1")
    away = admin("approve", "r-1", REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    assert (away.returncode, len(away.stderr.splitlines())) == (1, 1)
    assert away.stderr.startswith("Redis cannot be used")
    twice = admin("request", "--user", "kim", "--tool", "x", "--id", "r-1")
    assert (twice.returncode, len(twice.stderr.splitlines())) == (1, 1)
    assert "r-1 was made before" in twice.stderr
    for arguments, says in (
        (("--timeout", "0"), "timeout"),
        (("--id", "a b"), "request_id"),
        (("--to", "nobody"), "email_to"),
        (("--argument", "x"), "write NAME=TEXT"),
        (("--argument", "x:={"), "is not JSON"),
    ):
        wrong = admin("request", "--user", "kim", "--tool", "x", *arguments)
        assert (wrong.returncode, wrong.stdout) == (2, "")
        assert says in wrong.stderr
    assert admin("list", SMTP_PORT="x").returncode == 2
    assert admin("approve", "r-1", "--as", "").returncode == 2
    assert desk.stats().pending == 1


def test_watch_on_a_terminal_shows_changes_until_ctrl_c(settings: dict[str, str], desk: Desk, tmp_path: Path) -> None:
    ask(desk, "deploy-1", user="김민수", tool="run_" * 12)
    master, terminal = pty.openpty()
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 130, 0, 0))
    watch = subprocess.Popen(
        [*ON_TERMINAL, "watch"],
        cwd=tmp_path,
        env={**settings, "TERM": "xterm"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    shown = bytearray()

    def read() -> None:
        while True:
            try:
                shown.extend(os.read(master, 65536))
            except OSError:  # The terminal is gone with the program.
                return

    reader = threading.Thread(target=read)
    reader.start()

    def screen() -> str:
        """What is seen now: what came since the last time that the cursor went home."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode("utf-8", "replace").rpartition("\x1b[H")[2])

    try:
        wait_for(lambda: re.search(r"1 pending .*deploy-1 +pending +김민수 .*run_  .* left", screen(), re.DOTALL))
        first = re.search(r" \d:\d\d left", screen())
        assert first
        wait_for(lambda: " left" in screen() and first[0] not in screen(), saying="the time left counting down")
        desk.approve("deploy-1", responder_id="op")
        wait_for(lambda: re.search(r"0 pending .*deploy-1 +approved +김민수 .*op", screen(), re.DOTALL))
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 80, 0, 0))
        wait_for(lambda: re.search("run_…", screen()) and max(map(columns, screen().splitlines())) <= 80)

        os.write(master, b"\x03")

        assert watch.wait(30) == 0
    finally:
        watch.kill()
        watch.wait()
        reader.join()
        os.close(master)
    text = shown.decode()
    assert text.index("\x1b[?25l") < text.index("\x1b[H")
    assert text.index("\x1b[?25h") > text.rindex("\x1b[H"), "the cursor is back"
    assert text.rindex("\x1b[?1049l") > text.rindex("\x1b[H"), "and what was on the terminal before"
    assert "Traceback" not in text


def test_watch_tells_other_programs_each_change_in_a_line(
    begin: Callable[..., subprocess.Popen[str]], desk: Desk
) -> None:
    ask(desk, "old-1")
    desk.reject("old-1", responder_id="op")
    ask(desk, "deploy-1")
    watch = begin("watch")
    assert watch.stdout is not None
    first = json.loads(watch.stdout.readline())
    assert list(first) == KEYS
    assert (first["request_id"], first["status"]) == ("deploy-1", "pending")

    ask(desk, "deploy-2")
    assert json.loads(watch.stdout.readline())["request_id"] == "deploy-2"
    desk.cancel("deploy-1")
    changed = json.loads(watch.stdout.readline())

    assert (changed["request_id"], changed["status"]) == ("deploy-1", "cancelled")
    watch.send_signal(signal.SIGINT)
    rest, error = watch.communicate(timeout=30)
    assert (watch.returncode, rest, error) == (0, "", "")


@pytest.mark.parametrize("language", ["ko", "en"])
def test_the_commands_that_a_mail_prints_work(
    language: str, settings: dict[str, str], desk: Desk, client: redis.Redis, tmp_path: Path
) -> None:
    commands = {}
    for verb in ("approve", "reject"):
        asked = ask(desk)
        record = client.hget(f"approval_mail:{{store}}:event:{asked.request_id}:approval_requested", "record")
        event = ApprovalEvent.from_json(str(record))
        content = services.renderer(language).render(event, datetime.now(timezone.utc))
        [commands[asked.request_id]] = re.findall(rf"^ *(approval-admin {verb} .*)$", content.text, re.MULTILINE)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    done = subprocess.run(
        ["sh", "-ec", "\n".join(commands.values())],
        cwd=tmp_path,
        env={**settings, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert [desk.read(name).status.value for name in commands] == ["approved", "rejected"]
    reasons = [desk.read(name).reason for name in commands]
    assert reasons == ["", shlex.split(list(commands.values())[-1])[-1]]


def test_a_table_keeps_its_columns_in_any_alphabet_and_width() -> None:
    now = datetime(2025, 10, 25, 6, 30, tzinfo=timezone.utc)
    rows = [
        Approval(
            name, user, "도구" * 20, None, now, now + timedelta(seconds=3_600 + 247), Status.PENDING, responder_id=""
        )
        for name, user in (("3f2b81c4-1111", "김민수 e\u0301"), ("3f2b81c4-2222", "k"), ("x", "👍"))
    ]
    for width in (None, 100, 80, 60):
        lines = table(rows, width=width, now=now).splitlines()
        starts = {columns(line[: line.index("1:04:07 left")]) for line in lines[1:]}
        assert len(starts) == 1
        assert width is None or max(map(columns, lines)) <= max(width, 76)
        assert [line.split()[0] for line in lines[1:]] == ["3f2b81c4-1", "3f2b81c4-2", "x"], "no id is ambiguous"
    assert [columns(text) for text in ("김민수", "e\u0301", "👍", "git", "…")] == [6, 1, 2, 3, 1]
    untold = replace(rows[2], untold=True)
    over = replace(untold, status=Status.EXPIRED)
    states = [re.split("  +", line)[1] for line in table([rows[2], untold, over], now=now).splitlines()]
    assert states == ["status", "pending", "pending, untold", "expired"], "who is told now can still decide"
    assert left(rows[0], now + timedelta(days=1)) == "0:00"
    assert left(rows[0], now - timedelta(days=2)) == "2 d 1:04:07"
