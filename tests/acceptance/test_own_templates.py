"""Operators' own templates, each kind through a real worker that is never restarted."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

import pytest

from approval_mail import hooks
from approval_mail.rendering import message_id, packaged_folder
from approval_mail.settings import Settings
from tests.conftest import environment
from tests.rig.programs import Program
from tests.rig.redis_server import RedisServer
from tests.rig.smtp_server import SMTPServer
from tests.rig.waiting import wait_for

LOGO = '<img src="https://company.example/logo.png" alt="Company Logo" style="height: 40px;">'
numbers = itertools.count(1)


@dataclass
class Office:
    """A worker whose NOTIFICATION_TEMPLATE_DIR the tests write into."""

    folder: Path
    smtp: SMTPServer
    worker: Program

    def write(self, name: str, content: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, "utf-8")
        return path

    def mail(self, event_type: str = "approval_requested") -> Arrived:
        """Tell an event and wait for its mail."""
        request = f"{next(numbers):08d}-own"
        data = {"request_id": request, "user_id": "kim", "tool_name": "git_commit", "ticket": "T-1", "reason": "why"}
        assert hooks.emit(event_type, data) == "accepted"
        expected = message_id(f"{request}:{event_type}", "operator@localhost", "localhost")
        mail = wait_for(lambda: next((mail for mail in self.smtp.mails if mail.message_id == expected), None))
        return Arrived(mail.subject, part(mail.message, "plain"), part(mail.message, "html"))


@dataclass
class Arrived:
    subject: str
    text: str
    html: str


def part(message: EmailMessage, kind: str) -> str:
    body = message.get_body((kind,))
    assert body is not None
    return str(body.get_content()).replace("\r\n", "\n")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, str], Office]]:
    folder = tmp_path_factory.mktemp("office")
    (folder / "redis").mkdir()
    server = RedisServer(folder / "redis").start()
    smtp = SMTPServer().start()
    settings = {
        **environment(server, smtp, folder),
        "NOTIFICATION_TEMPLATE_DIR": str(folder / "mine"),
        "NOTIFICATION_URGENT_TIMEOUT": "0",
    }
    worker = Program.celery("worker", "--concurrency=1", "--without-mingle", folder=folder, settings=settings)
    try:
        yield settings, Office(folder / "mine", smtp, worker.ready())
    finally:
        worker.kill()
        smtp.stop()
        server.kill()


@pytest.fixture
def office(program: tuple[dict[str, str], Office], tmp_path: Path) -> Office:
    """The worker with an empty template folder."""
    settings, found = program
    hooks.configure(Settings.load(settings, tmp_path).require())
    shutil.rmtree(found.folder, ignore_errors=True)
    found.folder.mkdir()
    return found


def test_without_a_subject_block_a_template_gets_the_guides_subject(office: Office) -> None:
    office.write("approval_requested.html", "<p>{{ user_id }} 님이 {{ tool_name }}</p>")
    mail = office.mail()
    assert mail.subject == "[승인 필요] git_commit 도구"
    assert "<p>kim 님이 git_commit</p>" in mail.html


def test_a_subject_block_of_ones_own_is_the_subject(office: Office) -> None:
    office.write(
        "approval_approved.html",
        '{% extends "base.html" %}{% block subject %}Ticket {{ ticket }}{% endblock %}'
        "{% block content %}{{ tool_name }}{% endblock %}",
    )
    mail = office.mail("approval_approved")
    assert mail.subject == "Ticket T-1"
    assert "승인 워크플로우" in mail.html, "the packaged base.html is around it"


def test_without_a_txt_the_text_part_is_made_from_ones_own_html(office: Office) -> None:
    office.write("approval_requested.html", "<h1>Please decide</h1><ul><li>{{ tool_name }}</li></ul>")
    assert office.mail().text.strip() == "Please decide\n\n- git_commit"


def test_a_txt_of_ones_own_is_the_text_part(office: Office) -> None:
    office.write("approval_requested.html", "<h1>Please decide</h1>")
    office.write("approval_requested.txt", "Decide: {{ tool_name }} for <{{ user_id }}>")
    assert office.mail().text.strip() == "Decide: git_commit for <kim>"


def test_an_empty_file_is_passed_over_with_a_warning(office: Office) -> None:
    """The guide's ``touch``: the packaged mail goes out, never a blank one."""
    path = office.write("approval_rejected.html", "")
    mail = office.mail("approval_rejected")
    assert mail.subject == "[거부됨] git_commit 도구"
    assert "why" in mail.text
    office.worker.wait_for_line(f"Template {path} is blank and passed over")


def test_what_is_missing_is_taken_from_the_package_with_a_warning(office: Office) -> None:
    office.write("approval_requested.html", "<p>mine</p>")
    assert "git_commit" in office.mail("approval_timeout").text
    office.worker.wait_for_line(f"Not in {office.folder}, the packaged ones are used: ")


@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        ("<p>one</p>\n{% if %}", 2, "TemplateSyntaxError"),
        ("<p>one</p>\n\n{{ expired_at }}", 3, "UndefinedError: 'expired_at' is undefined"),
        ("<p>one</p>\n{{ 1 / 0 }}", 2, "ZeroDivisionError"),
        ('{% extends "nobody.html" %}', 1, "TemplateNotFound"),
    ],
)
def test_a_broken_template_falls_back_to_the_packaged_one_and_is_named(
    office: Office, content: str, line: int, says: str
) -> None:
    path = office.write("approval_requested.html", content)
    mail = office.mail()
    assert mail.subject == "[승인 필요] git_commit 도구"
    assert "승인과 거부는 이 요청을 보낸 시스템에서" in mail.text
    [told] = [told for told in office.worker.output().splitlines() if f"{path}:{line}: " in told and says in told]
    assert "ERROR" in told
    assert "Template failed for ApprovalEvent(approval_requested, " in told


def test_a_broken_base_falls_back_as_a_whole(office: Office) -> None:
    path = office.write("base.html", "<html>{{ nobody }}{% block content %}{% endblock %}</html>")
    mail = office.mail("approval_timeout")
    assert "승인 워크플로우" in mail.html
    office.worker.wait_for_line(f"{path}:1: UndefinedError: 'nobody' is undefined")


def test_a_mended_template_is_used_without_a_restart(office: Office) -> None:
    path = office.write("approval_requested.html", "<p>{{ nobody }}</p>")
    assert "실행하려 합니다" in office.mail().text
    path.write_text("<p>mended: {{ tool_name }}</p>", "utf-8")
    assert office.mail().text.strip() == "mended: git_commit"


def test_the_guides_logo_and_changed_heading_work_as_it_says(office: Office) -> None:
    base = (packaged_folder() / "base.html").read_text("utf-8")
    requested = (packaged_folder() / "approval_requested.html").read_text("utf-8")
    office.write("base.html", base.replace('<div class="header">', f'<div class="header">\n    {LOGO}'))
    office.write(
        "approval_requested.html", requested.replace("새로운 승인 요청이 발생했습니다", "New approval request received")
    )
    mail = office.mail()
    assert 'src="https://company.example/logo.png"' in mail.html
    assert "🔔 New approval request received" in mail.html
    assert "https://company.example/logo.png" in office.mail("approval_timeout").html
