"""``approval-mail demo`` as a person runs it: real processes, on this machine alone."""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import smtplib
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import ClassVar

import psutil
import pytest

from approval_mail.demo.catcher import MailCatcher
from approval_mail.demo.inbox import Inbox
from tests.rig.browser import browser_page, picture
from tests.rig.waiting import wait_for

#: Seconds. Many times what a demo takes on an idle machine.
WITHIN = 60.0
#: Seconds from the demo's SIGKILL until nothing of it is left; the guards' grace and a busy machine's slack.
GONE_WITHIN = 15.0

PROGRAM = [str(Path(sys.executable).with_name("approval-mail")), "demo"]
SUBJECTS = [
    "[승인 필요] restart_service 도구",
    "[승인 필요] run_migration 도구",
    "[승인 필요] git_commit 도구",
    "[거부됨] run_migration 도구",
    "[승인됨] git_commit 도구",
    "[타임아웃] restart_service 승인 요청",
]
#: A mail's line: seconds since what it tells of, or the time of day of a mail that the demo did not cause.
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
    found = [process.info for process in psutil.process_iter(["pid", "ppid", "status"])]
    return {row["pid"]: row["ppid"] for row in found if row["status"] != psutil.STATUS_ZOMBIE}


def test_once_shows_six_mails_of_three_requests_and_leaves_nothing(
    place: Path, temporary: Path, environ: dict[str, str]
) -> None:
    demo = subprocess.run(
        [*PROGRAM, "--once"], cwd=place, env=environ, capture_output=True, text=True, timeout=WITHIN, check=False
    )

    assert demo.returncode == 0, demo.stdout + demo.stderr
    mails = [match for line in demo.stdout.splitlines() if (match := MAIL_LINE.fullmatch(line))]
    assert sorted(mail["subject"] for mail in mails) == sorted(SUBJECTS)
    assert {match["to"] for match in mails} == {"operator@localhost"}
    assert all(match["when"].endswith(" s") for match in mails)
    assert mails[0]["subject"] == SUBJECTS[0], "one is asked alone"
    assert re.search(r'  approval-admin reject [0-9a-f]{8} --reason "', demo.stdout)
    assert re.search(r"  http://127\.0\.0\.1:\d+/decide/", demo.stdout)
    assert "one request was approved, one rejected, one has expired" in demo.stdout
    assert "hunter2" not in demo.stdout
    assert demo.stderr == ""
    assert list(temporary.iterdir()) == []
    assert [each.name for each in place.iterdir()] == [".env"]


def test_a_person_approves_from_the_inbox_and_asks_once_more(
    start: Callable[..., RunningDemo], temporary: Path, environ: dict[str, str]
) -> None:
    demo = start("--lang", "en")
    demo.wait_for(r"\[Approval needed\] git_commit  ->  operator@localhost\n")
    inbox = demo.wait_for(r"web inbox +(http://\S+)")[1]
    pids = descendants(demo.process.pid)
    with browser_page() as page:
        page.goto(inbox)
        page.get_by_text("[Approval needed] git_commit").click()
        with page.context.expect_page() as opened:
            page.frame_locator("iframe").get_by_role("link", name="Approve").click()
        decision = opened.value
        decision.get_by_role("checkbox").wait_for()  # A new tab is opened before its page has come.
        assert decision.title() == "Approval request: git_commit"
        decision.get_by_role("checkbox").check()
        decision.get_by_role("button").click()
        decision.get_by_text("You approved this request").wait_for()
        page.get_by_text("[Approved] git_commit").wait_for()
        picture(page, "inbox.png", temporary)
    demo.wait_for(r"\d\d:\d\d:\d\d  \[Approved\] git_commit  ->  operator@localhost\n")

    command = demo.wait_for(r"REDIS_URL=redis://[^$]*?--wait")[0]
    theirs = {name: value for name, value in environ.items() if not name.startswith(("SMTP_", "CELERY_"))}
    asking = subprocess.Popen(["sh", "-c", command], env=theirs, cwd=temporary, stdout=subprocess.PIPE, text=True)
    assert asking.stdout is not None
    request_id = asking.stdout.readline().strip()
    demo.wait_for(r"\d\d:\d\d:\d\d  .*git_push.*  ->  operator@localhost\n")
    redis_url = re.search(r"REDIS_URL=(\S+)", command)
    assert redis_url
    admin = [str(Path(sys.executable).with_name("approval-admin")), "reject", request_id[:8], "--reason", "no"]
    subprocess.run(
        admin, env=theirs | {"REDIS_URL": redis_url[1], "NOTIFICATION_ENABLED": ""}, cwd=temporary, check=True
    )
    answer, _ = asking.communicate(timeout=WITHIN)
    assert (asking.returncode, "was rejected by" in answer) == (1, True)

    with urllib.request.urlopen(f"{inbox}mails.json", timeout=10) as listing:
        mails = json.load(listing)
    assert not any(re.search("[가-힣]", mail["subject"]) for mail in mails)
    demo.process.send_signal(signal.SIGTERM)

    assert demo.process.wait(WITHIN) == 0
    assert pids
    assert not pids & _living().keys()
    assert [each.name for each in temporary.iterdir() if each.name != "inbox.png"] == []


class _Elsewhere(http.server.BaseHTTPRequestHandler):
    """A site whose page tells in its title what it knows of where it was opened from."""

    visits: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.visits.append(self.path)
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<script>document.title = 'opener: ' + window.opener + document.referrer</script>")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def elsewhere() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Elsewhere)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    _Elsewhere.visits.clear()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_mails_links_open_tabs_of_their_own_and_nothing_else_of_it_goes_anywhere(elsewhere: str) -> None:
    mail = EmailMessage()
    mail["Subject"] = "hostile"
    mail.set_content(
        f"""<!DOCTYPE html><html><head><base target="_top" href="{elsewhere}/base/">
        <meta http-equiv="refresh" content="0;url={elsewhere}/refresh"><link rel="stylesheet" href="{elsewhere}/css">
        </head><body><a href="{elsewhere}/plain">plain</a> <a href="{elsewhere}/opener" rel="opener">opener</a>
        <a href="{elsewhere}/top" target="_top">top</a> <a href="{elsewhere}/frame" target="_self">frame</a>
        <form action="{elsewhere}/form"><button>form</button></form><img src="{elsewhere}/image">
        <script>location = "{elsewhere}/script"</script></body></html>""",
        subtype="html",
        cte="base64",
    )
    catcher = MailCatcher()
    catcher.start()
    inbox = Inbox(catcher)
    inbox.start()
    with smtplib.SMTP("127.0.0.1", catcher.port) as client:
        client.send_message(mail, "admin@localhost", ["operator@localhost"])
    try:
        with browser_page() as page:
            page.goto(f"{inbox.url}mails/1")
            frame = page.frame_locator("iframe")
            for name in ("plain", "opener"):
                with page.context.expect_page() as opened:
                    frame.get_by_role("link", name=name).click()
                opened.value.wait_for_load_state()
                assert opened.value.url == f"{elsewhere}/{name}"
                assert opened.value.title() == "opener: null"
            frame.get_by_role("button", name="form").click()
            frame.get_by_role("link", name="top").click()
            with page.expect_event("framenavigated", lambda moved: moved.url.startswith("chrome-error:")):
                frame.get_by_role("link", name="frame").click()
            assert page.url == f"{inbox.url}mails/1"
            assert len(page.context.pages) == 3
    finally:
        inbox.stop()
        catcher.stop()
    assert [path for path in _Elsewhere.visits if path != "/favicon.ico"] == ["/plain", "/opener"]


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
    demo.wait_for("->  operator@localhost")
    pids = descendants(demo.process.pid)
    assert len(pids) > 8, "four guards, Valkey, beat, the API, the worker and its pool"

    demo.process.kill()
    demo.process.wait()

    wait_for(lambda: not pids & _living().keys(), seconds=GONE_WITHIN, saying="the end of every process")
