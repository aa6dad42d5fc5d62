"""The four event tests of the guide that users of the earlier system follow, against the approvals store."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import Run, Start
from tests.rig.programs import Program
from tests.rig.redis_server import free_port
from tests.rig.smtp_server import SMTPServer
from tests.rig.waiting import wait_for


@pytest.fixture
def api(settings: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """The address of a running ``approval-mail api``."""
    port = free_port()
    command = (sys.executable, "-c", "from approval_mail.cli import main; main()", "api", "--port", str(port))
    program = Program(*command, folder=tmp_path, settings=settings, name="api")
    program.wait_for_line("Serving approvals")
    yield f"http://127.0.0.1:{port}"
    program.kill()


@pytest.fixture
def pipeline(start: Start) -> None:
    start("worker", "--concurrency=2").ready()
    start("beat")


def asked(admin: Run, tool: str, *more: str) -> str:
    """Ask for permission; answers the request's id."""
    done = admin("request", "--user", "kim", "--tool", tool, *more)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def arrived(smtp: SMTPServer, subject: str) -> None:
    wait_for(lambda: subject in [mail.subject for mail in smtp.mails], seconds=60, saying=f"the mail {subject}")


@pytest.mark.usefixtures("pipeline")
def test_2_1_to_2_3_a_request_is_mailed_approved_and_another_rejected(admin: Run, smtp: SMTPServer) -> None:
    name = asked(admin, "git_commit", "--argument", "message=test commit")
    arrived(smtp, "[승인 필요] git_commit 도구")

    assert admin("approve", name, "--reason", "Approved for testing").returncode == 0
    arrived(smtp, "[승인됨] git_commit 도구")

    name = asked(admin, "deploy")
    arrived(smtp, "[승인 필요] deploy 도구")
    assert admin("reject", name[:8], "--reason", "Policy violation").returncode == 0
    arrived(smtp, "[거부됨] deploy 도구")
    assert len(smtp.mails) == 4


@pytest.mark.usefixtures("pipeline")
def test_2_4_a_timeout_is_mailed_though_nobody_polls(admin: Run, smtp: SMTPServer) -> None:
    asked(admin, "git_commit", "--timeout", "1.5")
    arrived(smtp, "[타임아웃] git_commit 승인 요청")


def test_2_4_a_timeout_is_mailed_on_a_poll_though_no_beat_runs(
    start: Start, admin: Run, api: str, smtp: SMTPServer
) -> None:
    name = asked(admin, "git_commit", "--timeout", "1.5")

    def status() -> str:
        request = urllib.request.Request(f"{api}/api/approvals/{name}/status", headers={"X-User-ID": "admin"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(json.load(answer)["status"])

    wait_for(lambda: status() == "expired", seconds=60, saying="the status expired")
    start("worker", "--concurrency=2").ready()
    arrived(smtp, "[타임아웃] git_commit 승인 요청")
    assert len(smtp.mails) == 1, "the request's own mail has become moot"
