"""Routing as operators meet it: `approval-mail routes test`, the guides' example, and a worker that reads the file."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from approval_mail.routing import Routes, RoutesFile
from tests.acceptance.conftest import Run, Start
from tests.rig.guide import Block, first_missing, read
from tests.rig.redis_server import free_port
from tests.rig.smtp_server import SMTPServer
from tests.rig.waiting import wait_for

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "routes.toml"
KIM = ("--field", "user_id=kim", "--field", "tool_name=payout_eu")

each_guide = pytest.mark.parametrize("language", ["en", "ko"])


def blocks(language: str) -> list[Block]:
    return list(read(ROOT / "docs" / f"guide.{language}.md").blocks)


@each_guide
def test_the_guides_show_the_example_file(language: str) -> None:
    [shown] = [block.text for block in blocks(language) if block.language == "toml"]
    routes, example = Routes.parse(shown, "guide"), RoutesFile(EXAMPLE, lambda _: True).load()
    assert routes.rules == example.rules


@each_guide
def test_routes_test_prints_what_the_guides_show(language: str, tmp_path: Path, settings: dict[str, str]) -> None:
    [block] = [block for block in blocks(language) if "approval-mail routes test" in block.text]
    program = f"approval-mail() {{ {sys.executable} -c 'from approval_mail.cli import main; main()' \"$@\"; }}\n"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", program + block.text.replace("/path/to/approval_mail", str(ROOT))],
        cwd=tmp_path,
        env={**settings, "NOTIFICATION_LANGUAGE": language, "NOTIFICATION_TIMEZONE": "Asia/Seoul"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert block.shown
    assert first_missing(block.shown, done.stdout) is None, done.stdout
    assert len(done.stdout.splitlines()) == len(block.shown.splitlines())


def test_the_default_route_is_told_as_such_and_needs_no_redis(run: Run) -> None:
    done = run("routes", "test", "approval_requested", *KIM, REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    assert done.returncode == 0
    assert done.stdout == "operator@localhost  ko  system's zone  default route (EMAIL_TO)\n"
    assert done.stderr == "NOTIFICATION_ROUTES is unset: every event takes the default route\n"
    done = run("routes", "test", "approval_requested", *KIM, "--field", "email_to=a@example.com")
    assert done.stdout == "a@example.com  ko  system's zone  the event's own email_to\n"


def test_the_settings_file_is_used_unless_another_is_to_be_tried(run: Run, tmp_path: Path) -> None:
    for name in ("in-place", "new"):
        (tmp_path / name).write_text(f"[[rule]]\nname = '{name}'\nto = ['{name}@example.com', '{{nobody}}']\n")
    in_place = {"NOTIFICATION_ROUTES": str(tmp_path / "in-place"), "NOTIFICATION_TIMEZONE": "Asia/Seoul"}
    done = run("routes", "test", "approval_reminder", *KIM, **in_place)
    assert (done.returncode, done.stdout) == (0, "in-place@example.com  ko  Asia/Seoul  in-place\n")
    assert done.stderr == "warning: rule 'in-place': to '{nobody}': the event has no nobody\n"
    done = run("routes", "test", "approval_reminder", *KIM, "--file", str(tmp_path / "new"), "--json", **in_place)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {
        "recipients": [
            {"address": "new@example.com", "language": "ko", "timezone": "Asia/Seoul", "rule": "new"},
        ],
        "state": "open",
        "reason": "",
        "warnings": ["rule 'new': to '{nobody}': the event has no nobody"],
    }


def test_nobody_is_exit_code_1_with_the_reason(run: Run, tmp_path: Path) -> None:
    (tmp_path / "routes.toml").write_text(
        "[[rule]]\nname = 'own'\ntype = 'approval_requested'\nto = 'kim@example.com'\n"
        "leave_out = '{user_id}@example.com'\n[[rule]]\nname = 'quiet'\noff = true\n"
    )
    file = ("--file", str(tmp_path / "routes.toml"))
    reason = (
        "rule 'own' leaves out everyone who would be told; let a rule name somebody else, "
        "then: approval-mail dead retry EVENT_ID"
    )
    done = run("routes", "test", "approval_requested", *KIM, *file)
    assert (done.returncode, done.stdout) == (1, f"dead: {reason}\nnot told: kim@example.com\n")
    done = run("routes", "test", "approval_timeout", *KIM, *file, "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["state"], found["reason"]) == (1, "suppressed", "switched off by rule 'quiet'")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("approval_asked", *KIM), "use one of: approval_requested"),
        (("approval_requested", "--field", "user_id=kim"), "field 'tool_name' is missing"),
        (("approval_requested", *KIM, "--field", "email_to=nobody"), "which is not an address"),
        (("approval_requested", *KIM, "--field", "amount:=x"), "is not JSON"),
        (("approval_requested", *KIM, "--file", "nowhere.toml"), "nowhere.toml does not exist"),
        (("approval_requested", *KIM, "--file", "."), "is not a file"),
    ],
)
def test_wrong_usage_is_exit_code_2(run: Run, arguments: tuple[str, ...], says: str) -> None:
    done = run("routes", "test", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_every_problem_of_a_file_is_listed_with_its_line(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "routes.toml"
    path.write_text("[[rule]]\nname = 'a'\nto = 'nobody'\nlang = 'en'\n")
    for given in (("--file", str(path)), ()):
        done = run("routes", "test", "approval_requested", *KIM, *given, NOTIFICATION_ROUTES=str(path))
        assert (done.returncode, done.stdout) == (2, "")
        assert [line.partition(" is ")[0] for line in done.stderr.splitlines()] == [
            f"{path}, line 4: rule 'a': 'lang'",
            f"{path}, line 3: rule 'a': to 'nobody'",
        ]


def test_a_worker_refuses_to_start_with_a_faulty_file(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "routes.toml"
    path.write_text("[[rule]]\nname = 'a'\nto = 'nobody'\nlang = 'en'\n")
    worker = start("worker", NOTIFICATION_ROUTES=str(path))
    assert worker.process.wait(30) == 2
    assert f"{path}, line 3: rule 'a': to 'nobody' is not an address" in worker.output()
    assert f"{path}, line 4: rule 'a': 'lang' is not a key of a rule" in worker.output()
    assert "Traceback" not in worker.output()


Emit = Callable[..., list[str]]


def rewrite(path: Path, text: str) -> None:
    """As the guides advise."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


def test_a_worker_sends_by_the_rules_and_takes_edits_while_it_runs(
    run: Run, start: Start, emit: Emit, smtp: SMTPServer, tmp_path: Path
) -> None:
    path = tmp_path / "routes.toml"
    first = (
        "[[rule]]\nname = 'quiet'\ntype = 'approval_timeout'\noff = true\n"
        "[[rule]]\nname = 'own'\ntype = 'approval_rejected'\nto = 'kim@example.com'\n"
        "leave_out = '{user_id}@example.com'\n"
    )
    rewrite(path, f"{first}[[rule]]\nname = 'all'\nto = 'first@example.com'\nlanguage = 'en'\n")
    worker = start("worker", NOTIFICATION_ROUTES=str(path)).ready()

    emit([("approval_requested", "one"), ("approval_timeout", "two"), ("approval_rejected", "three")])
    wait_for(lambda: len(smtp.mails) == 1 and (found := counts(run))["dead"] == 1 and found["suppressed"] == 1)
    assert [(mail.recipient, "git_commit" in mail.subject) for mail in smtp.mails] == [("first@example.com", True)]
    assert "승인" not in smtp.mails[0].subject
    [dead] = json.loads(run("dead", "list", "--json").stdout)
    assert (dead["recipient"], dead["phase"], dead["attempts"]) == ("kim@example.com", "routing", 0)
    assert dead["reason"].startswith("rule 'own' leaves out everyone")
    assert "switched off by rule 'quiet'" in run("trace", "two").stdout

    rewrite(path, "[[rule]]\nname = 'all'\nto = 'nobody'\n")
    time.sleep(1.5)  # Within the first second after a write no version is taken.
    emit([("approval_requested", "four")])
    worker.wait_for_line(f"Routes of {path} are not taken, the last good version goes on: {path}, line 3: rule 'all'")
    wait_for(lambda: len(smtp.mails) == 2)
    assert smtp.mails[1].recipient == "first@example.com"
    [(where, fault)] = wait_for(lambda: routes_faults(run).items())
    assert where == f"{socket.gethostname()}:{path}"
    assert fault.startswith(f"{path}, line 3: rule 'all'")
    shown = f"routes          not taken, the last good version goes on: {socket.gethostname()}: {path}, line 3:"
    assert shown in run("status").stdout
    assert "\napproval_mail_routes_faulty 1.0\n" in run("metrics").stdout

    rewrite(path, "[[rule]]\nname = 'all'\nto = 'second@example.com'\n")
    time.sleep(1.5)
    emit([("approval_requested", "five")])
    wait_for(lambda: len(smtp.mails) == 3)
    assert smtp.mails[2].recipient == "second@example.com"
    worker.wait_for_line(f"Routes of {path} taken: 1 rule")
    wait_for(lambda: not routes_faults(run))
    run("dead", "retry", "three:approval_rejected")
    wait_for(lambda: len(smtp.mails) == 4)
    assert smtp.mails[3].recipient == "second@example.com"
    assert worker.output().count("are not taken") == 1


def test_a_process_that_takes_the_place_of_another_has_the_last_good_version(
    run: Run, start: Start, emit: Emit, smtp: SMTPServer, tmp_path: Path
) -> None:
    path = tmp_path / "routes.toml"
    rewrite(path, "[[rule]]\nname = 'all'\nto = 'first@example.com'\n")
    worker = start("worker", NOTIFICATION_ROUTES=str(path)).ready()
    worker.wait_for_line(f"Routes of {path} in force: 1 rule")
    # Of what is wrong with the file the parent of the processes tells: it looks every five seconds.
    rewrite(path, "[[rule]]\nname = 'all'\nto = 'nobody'\n")
    wait_for(lambda: routes_faults(run))
    rewrite(path, "[[rule]]\nname = 'all'\nto = 'second@example.com'\n")
    wait_for(lambda: not routes_faults(run))
    rewrite(path, "[[rule]]\nname = 'all'\nto = 'nobody'\n")
    wait_for(lambda: routes_faults(run))
    for child in psutil.Process(worker.process.pid).children():
        child.kill()
    emit([("approval_requested", "one")])
    wait_for(lambda: len(smtp.mails) == 1, seconds=90)
    assert smtp.mails[0].recipient == "second@example.com"


def routes_faults(run: Run) -> dict[str, str]:
    return dict(json.loads(run("status", "--json").stdout)["routes_faults"])


def counts(run: Run) -> dict[str, int]:
    return dict(json.loads(run("status", "--json").stdout))
