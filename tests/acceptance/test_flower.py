"""Flower as operators start it, read by its API and in a real browser."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import redis

from tests.conftest import environment
from tests.rig.browser import browser_page, picture
from tests.rig.programs import Program
from tests.rig.redis_server import RedisServer, free_port
from tests.rig.smtp_server import SMTPServer
from tests.rig.waiting import wait_for

LOGIN = "operator:flower-secret"
#: What no page, answer, task message or result may show.
SECRETS = (
    "secret-address@example.com",
    "broken@@example.com",
    "secret reason",
    "secret argument",
    "smtp-secret",
    "flower-secret",
    "somebody@example.com",
)
HOST = """
from approval_mail import hooks
from approval_mail.celery import app
from approval_mail.tasks import notify

hidden = {"email_to": "secret-address@example.com", "arguments": {"key": "secret argument"}}
names = {"request_id": "abc12345-6789", "user_id": "kim", "tool_name": "git_commit"}
"""
ASK = HOST + "hooks.approval_requested(**names, **hidden)"
ANSWER = (
    HOST
    + """
names["request_id"] = "abc12345-another"
notify.delay("approval_rejected", {**names, **hidden, "reason": "secret reason"}).get(timeout=60)
# As a client that has only Celery sends it, and with a field that is refused.
broken = {**names, "reason": "secret reason", "email_to": "broken@@example.com"}
try:
    app.send_task("approval_mail.notify", args=["approval_approved", broken]).get(timeout=60)
except Exception as error:
    print(error)
"""
)


def run(code: str, folder: Path, settings: dict[str, str]) -> str:
    """Run a host's program; answers what it printed."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True, check=True).stdout


@dataclass
class Running:
    """Flower with a worker, after events that were sent, retried and refused."""

    url: str
    redis: RedisServer
    worker: Program
    flower: Program
    #: What the program that sent the events was told of the refused one.
    told: str

    def get(self, path: str, *, login: str = LOGIN) -> str:
        request = urllib.request.Request(f"{self.url}{path}")
        request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
        with urllib.request.urlopen(request) as answer:
            return str(answer.read().decode())

    def tasks(self) -> list[dict[str, object]]:
        return list(json.loads(self.get("/api/tasks")).values())


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("flower")
    (folder / "redis").mkdir()
    (folder / "login").write_text(LOGIN)
    server = RedisServer(folder / "redis").start()
    smtp = SMTPServer(users={"somebody@example.com": "smtp-secret"}).start()
    smtp.on("rcpt", "451 greylisted: secret-address@example.com", times=1)
    smtp.on("auth", "454 somebody@example.com cannot log in just now", times=1)
    settings = {
        **environment(server, smtp, folder),
        "SMTP_USE_TLS": "false",
        "SMTP_USER": "somebody@example.com",
        "SMTP_PASSWORD": "smtp-secret",
        "XDG_STATE_HOME": str(folder / "state"),
        "FLOWER_BASIC_AUTH_FILE": str(folder / "login"),
    }
    port = free_port()
    flower = Program.celery("flower", f"--port={port}", folder=folder, settings=settings)
    worker = Program.celery("worker", "-E", "--without-mingle", folder=folder, settings=settings)
    try:
        worker.ready()
        flower.wait_for_line("Connected to redis://")
        # One after the other, so that each is a batch of its own.
        run(ASK, folder, settings)
        wait_for(lambda: len(smtp.mails) == 1, saying="the first mail")
        told = run(ANSWER, folder, settings)
        wait_for(lambda: len(smtp.mails) == 2, saying="the second mail")
        found = Running(f"http://127.0.0.1:{port}", server, worker, flower, told)
        wait_for(lambda: sum(row["name"] == "approval_mail.conclude" for row in found.tasks()) == 2)
        yield found
    finally:
        for program in (flower, worker):
            program.kill()
        smtp.stop()
        server.kill()


def test_rows_describe_what_a_task_is_about(running: Running) -> None:
    rows = {(row["name"], row["args"], row["state"]) for row in running.tasks()}
    assert ("approval_mail.notify", "approval_rejected abc12345 git_commit", "SUCCESS") in rows
    assert ("approval_mail.notify", "approval_approved abc12345 git_commit", "FAILURE") in rows
    assert ("approval_mail.send_batch", "approval_requested abc12345 git_commit", "SUCCESS") in rows
    assert ("approval_mail.send_batch", "approval_rejected abc12345 git_commit", "SUCCESS") in rows
    assert ("approval_mail.conclude", "1 batch", "SUCCESS") in rows
    assert ("approval_mail.gather", "woken", "SUCCESS") in rows
    assert {row["kwargs"] for row in running.tasks()} == {""}


def test_a_retried_task_keeps_its_description(running: Running) -> None:
    retried = [row for row in running.tasks() if row["retries"]]
    assert len(retried) >= 1
    assert all(re.fullmatch(r"approval_\w+ abc12345 git_commit", str(row["args"])) for row in retried)
    assert all("may be accepted shortly" in str(row["exception"]) for row in retried)


def test_the_caller_learns_which_field_is_wrong_without_its_value(running: Running) -> None:
    assert running.told == (
        "approval_approved: field 'email_to' has ****, which is not an address like name@example.com\n"
    )


def test_nothing_that_flower_answers_holds_a_secret(running: Running) -> None:
    [worker] = json.loads(running.get("/api/workers?refresh=1"))
    paths = ["/", "/tasks", "/broker", "/metrics", "/api/tasks", "/api/workers", f"/worker/{worker}"]
    for task_id in json.loads(running.get("/api/tasks")):
        paths += [f"/task/{task_id}", f"/api/task/info/{task_id}", f"/api/task/result/{task_id}"]
    for path in paths:
        page = running.get(path)
        assert page
        assert [secret for secret in SECRETS if secret in page] == [], path


def test_no_result_in_the_backend_holds_a_secret(running: Running) -> None:
    with running.redis.client as client:
        results = [str(client.get(key)) for key in client.scan_iter("celery-task-meta-*")]
    assert len(results) >= 3
    assert [secret for secret in SECRETS for result in results if secret in result] == []
    assert any("Traceback" in result for result in results), "the refused and the retried one are among them"


def test_what_a_worker_is_doing_is_told_without_arguments(
    redis_server: RedisServer, settings: dict[str, str], smtp: SMTPServer, client: redis.Redis, tmp_path: Path
) -> None:
    """Flower's page of a worker shows what ``celery inspect`` answers: here of a task that is under way."""
    smtp.slowness = 20
    worker = Program.celery("worker", "--without-mingle", "--hostname=one@host", folder=tmp_path, settings=settings)
    try:
        worker.ready()
        run(ASK, tmp_path, settings)
        wait_for(lambda: any(command.startswith("DATA") or command == "data" for command in smtp.commands))
        inspect = (sys.executable, "-m", "celery", "-A", "approval_mail", "inspect", "active", "--json")
        done = subprocess.run(
            [*inspect, "--timeout=10", "--destination=one@host"],
            cwd=tmp_path, env=settings, capture_output=True, text=True, check=True,
        )  # fmt: skip
    finally:
        worker.kill()
    [[task]] = json.loads(done.stdout).values()
    assert (task["name"], task["args"]) == ("approval_mail.send_batch", "approval_requested abc12345 git_commit")
    assert "secret" not in done.stdout


def test_flower_only_shows_and_only_to_who_may_log_in(running: Running) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        running.get("/tasks", login="operator:wrong")
    [worker] = json.loads(running.get("/api/workers?refresh=1"))
    request = urllib.request.Request(f"{running.url}/api/worker/shutdown/{worker}", method="POST")
    request.add_header("Authorization", f"Basic {base64.b64encode(LOGIN.encode()).decode()}")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(request)
    assert running.worker.process.poll() is None


def test_a_browser_shows_the_rows(running: Running, tmp_path: Path) -> None:
    with browser_page(width=1250, height=500) as page:
        page.set_extra_http_headers({"Authorization": f"Basic {base64.b64encode(LOGIN.encode()).decode()}"})
        page.goto(f"{running.url}/tasks")
        page.locator("input[type=search]").fill("send_batch")
        row = page.locator("tr", has_text="approval_mail.send_batch").filter(has_text="approval_requested")
        row.first.wait_for()
        assert "approval_requested abc12345 git_commit" in row.first.inner_text()
        heads = [head.strip().lower() for head in page.locator("#tasks-table thead th").all_inner_texts()]
        assert heads == ["name", "args", "state", "received", "runtime", "retries", "result", "worker", "uuid"]
        taken = picture(page, "flower.png", tmp_path)
    assert taken.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"FLOWER_ADDRESS": "0.0.0.0"}, "set FLOWER_BASIC_AUTH_FILE to a file with user:password"),
        ({"FLOWER_ADDRESS": "::", "FLOWER_BASIC_AUTH": ""}, "set FLOWER_BASIC_AUTH_FILE to a file with user:password"),
        ({"FLOWER_BASIC_AUTH": "operator"}, "a login of Flower's is not user:password"),
        ({"XDG_STATE_HOME": "/dev/null"}, "Flower cannot keep its tasks in /dev/null/approval_mail/flower/tasks"),
        ({"FLOWER_BASIC_AUTH_FILE": "nowhere"}, "FLOWER_BASIC_AUTH_FILE=nowhere cannot be read"),
        ({"FLOWER_BASIC_AUTH_FILE": "half"}, "FLOWER_BASIC_AUTH_FILE=half does not hold user:password"),
    ],
)
def test_flower_does_not_start_open_to_everyone(
    settings: dict[str, str], tmp_path: Path, changes: dict[str, str], says: str
) -> None:
    (tmp_path / "half").write_text("operator\n")
    settings = {**settings, "XDG_STATE_HOME": str(tmp_path / "state"), **changes}
    flower = Program.celery("flower", f"--port={free_port()}", folder=tmp_path, settings=settings)
    assert flower.process.wait(30) == 2
    assert says in flower.output()
    assert "Traceback" not in flower.output()


def test_a_login_in_flowers_own_configuration_file_counts(settings: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "flowerconfig.py").write_text("basic_auth = ['operator:password']\naddress = '0.0.0.0'\n")
    settings = {**settings, "XDG_STATE_HOME": str(tmp_path / "state"), "FLOWER_BASIC_AUTH": ""}
    port = free_port()
    flower = Program.celery("flower", f"--port={port}", folder=tmp_path, settings=settings)
    flower.wait_for_line("Connected to")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/tasks")
    assert (tmp_path / "state" / "approval_mail" / "flower").stat().st_mode & 0o077 == 0
    flower.kill()


def test_flower_whose_configuration_file_misses_a_file_is_not_open_to_everyone(
    settings: dict[str, str], tmp_path: Path
) -> None:
    """Flower passes over such a file without a word, and over what is looked at once it was read."""
    (tmp_path / "flowerconfig.py").write_text("basic_auth = [open('nowhere').read()]\n")
    settings = {**settings, "XDG_STATE_HOME": str(tmp_path / "state"), "FLOWER_ADDRESS": "0.0.0.0"}
    port = free_port()
    flower = Program.celery("flower", f"--port={port}", folder=tmp_path, settings=settings)
    flower.wait_for_line("Connected to")
    listening = [
        row.laddr for row in psutil.Process(flower.process.pid).net_connections("tcp") if row.laddr.port == port
    ]
    assert [place.ip for place in listening] == ["127.0.0.1"]
    flower.kill()


def test_flower_remembers_its_tasks_across_a_restart(settings: dict[str, str], tmp_path: Path) -> None:
    settings = {**settings, "XDG_STATE_HOME": str(tmp_path / "state"), "FLOWER_UNAUTHENTICATED_API": "true"}
    port = free_port()
    url = f"http://127.0.0.1:{port}/api/tasks"
    flower = Program.celery("flower", f"--port={port}", folder=tmp_path, settings=settings)
    flower.wait_for_line("Connected to")
    worker = Program.celery("worker", "-E", "--without-mingle", folder=tmp_path, settings=settings).ready()
    before = wait_for(lambda: urllib.request.urlopen(url).read().decode().count("approval_mail.gather"))
    worker.kill()
    assert flower.stop() == 0
    flower = Program.celery("flower", f"--port={port}", folder=tmp_path, settings=settings)
    flower.wait_for_line("Connected to", times=2)
    assert urllib.request.urlopen(url).read().decode().count("approval_mail.gather") >= before
    flower.kill()
