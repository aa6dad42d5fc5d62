"""The four event tests of the guide that users of the earlier system follow, against the approvals store."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import Start
from tests.rig.programs import Program
from tests.rig.redis_server import free_port
from tests.rig.smtp_server import SMTPServer
from tests.rig.waiting import wait_for

#: Runs ``approval-admin`` or ``approval-mail``, as sys.argv tells.
_PROGRAM = "import sys; from approval_mail.cli{} import main; main()"
Admin = Callable[..., str]


@pytest.fixture
def admin(settings: dict[str, str], tmp_path: Path) -> Admin:
    """Run ``approval-admin ...``; answers what it prints."""

    def call(*arguments: str) -> str:
        command = [sys.executable, "-c", _PROGRAM.format(".admin"), *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=settings, stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout.strip()

    return call


@pytest.fixture
def api(settings: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """The address of a running ``approval-mail api``."""
    port = free_port()
    command = (sys.executable, "-c", _PROGRAM.format(""), "api", "--port", str(port))
    program = Program(*command, folder=tmp_path, settings=settings, name="api")
    program.wait_for_line("Serving approvals")
    yield f"http://127.0.0.1:{port}"
    program.kill()


@pytest.fixture
def pipeline(start: Start) -> None:
    start("worker", "--concurrency=2").ready()
    start("beat")


def arrived(smtp: SMTPServer, subject: str) -> None:
    wait_for(lambda: subject in [mail.subject for mail in smtp.mails], seconds=10, saying=f"the mail {subject}")


@pytest.mark.usefixtures("pipeline")
def test_2_1_to_2_3_a_request_is_mailed_approved_and_another_rejected(admin: Admin, smtp: SMTPServer) -> None:
    name = admin("request", "--user", "kim", "--tool", "git_commit", "--argument", "message=test commit")
    arrived(smtp, "[승인 필요] git_commit 도구")

    admin("approve", name, "--reason", "Approved for testing")
    arrived(smtp, "[승인됨] git_commit 도구")

    name = admin("request", "--user", "kim", "--tool", "deploy")
    arrived(smtp, "[승인 필요] deploy 도구")
    admin("reject", name[:8], "--reason", "Policy violation")
    arrived(smtp, "[거부됨] deploy 도구")
    assert len(smtp.mails) == 4


@pytest.mark.usefixtures("pipeline")
def test_2_4_a_timeout_is_mailed_though_nobody_polls(admin: Admin, smtp: SMTPServer) -> None:
    admin("request", "--user", "kim", "--tool", "git_commit", "--timeout", "1.5")
    arrived(smtp, "[타임아웃] git_commit 승인 요청")


def test_2_4_a_timeout_is_mailed_on_a_poll_though_no_beat_runs(
    start: Start, admin: Admin, api: str, smtp: SMTPServer
) -> None:
    name = admin("request", "--user", "kim", "--tool", "git_commit", "--timeout", "1.5")

    def status() -> str:
        request = urllib.request.Request(f"{api}/api/approvals/{name}/status", headers={"X-User-ID": "admin"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(json.load(answer)["status"])

    wait_for(lambda: status() == "expired", seconds=10, saying="the status expired")
    start("worker", "--concurrency=2").ready()
    arrived(smtp, "[타임아웃] git_commit 승인 요청")
    assert len(smtp.mails) == 1, "the request's own mail has become moot"
