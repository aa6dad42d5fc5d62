"""Templates of an operator's that are missing, empty or wrong: a packaged one in their place, never a blank mail."""

from __future__ import annotations

import pytest

from tests.faults.world import World
from tests.rig.smtp_server import Mail

SUBJECTS = {
    "approval_requested": "[승인 필요] git_commit 도구",
    "approval_timeout": "[타임아웃] git_commit 승인 요청",
    "approval_approved": "[승인됨] git_commit 도구",
    "approval_rejected": "[거부됨] git_commit 도구",
}
#: What an operator's file may hold, and what the log says of it after the file's path; nothing: only that it is blank.
WRONG: dict[str, tuple[bytes, str]] = {
    "empty": (b"", ""),
    "blank": (b"\xef\xbb\xbf \n\t\n", ""),
    "unknown variable": (b"<p>one</p>\n{{ expired_at }}", ":2: UndefinedError: 'expired_at' is undefined"),
    "unknown in a variable": (b"{{ arguments.path.name }}", ":1: UndefinedError: "),
    "syntax error": (b"<p>one</p>\n\n{% if %}", ":3: TemplateSyntaxError: "),
    "not closed": (b"<p>{{ tool_name </p>", ":1: TemplateSyntaxError: "),
    "unknown filter": (b"{{ tool_name | shout }}", ":1: TemplateAssertionError: No filter named 'shout'"),
    "unknown parent": (b'{% extends "nobody.html" %}', ":1: TemplateNotFound: nobody.html"),
    "not UTF-8": ("<p>\n{{ tool_name }} 승인</p>".encode("cp949"), ":2: TemplateSyntaxError: is not UTF-8 text"),
    "blank once rendered": (b"{% block content %}<p> &nbsp; </p>{% endblock %}", " renders to a blank mail"),
    "division": (b"{{ 1 // 0 }}", ":1: ZeroDivisionError"),
    "recursion": (b"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", ":1: RecursionError"),
    "too much memory": (b"<p>\n{{ tool_name * (1000 ** 5) }}", ":2: MemoryError"),
    "too deep for Python": (b"{% for a in [1] %}" * 25 + b"{% endfor %}" * 25, ": SyntaxError"),
}


def assert_packaged(mails: list[Mail]) -> None:
    """Each of the four mails says what the packaged one does, in both of its parts."""
    assert sorted(mail.subject for mail in mails) == sorted(SUBJECTS.values())
    for mail in mails:
        for kind in ("plain", "html"):
            body = mail.message.get_body((kind,))
            assert body is not None
            assert "git_commit" in body.get_content()
            assert "kim" in body.get_content()


@pytest.mark.fault("templates missing, empty, wrong")
@pytest.mark.long
def test_whatever_is_wrong_with_templates_a_whole_mail_arrives(world: World) -> None:
    """First without the folder; then four wrong files at a time; then with a base that is wrong."""
    own = world.folder / "own"
    sender = world.celery("worker", "--concurrency=1", NOTIFICATION_TEMPLATE_DIR=str(own))
    world.beat()
    types = list(SUBJECTS)
    world.tell(len(types), types=types)
    sender.ready()
    sender.wait_for_line("Notification sent", times=4)
    assert_packaged(world.smtp.mails)
    sender.wait_for_line(f"Not in {own}, the packaged ones are used: base.html, approval_requested.html")

    own.mkdir()
    kinds = world.random.sample(sorted(WRONG), len(WRONG))
    kinds += kinds[: -len(kinds) % len(types)]
    for rounds, first in enumerate(range(0, len(kinds), len(types)), 2):
        wrong = dict(zip(types, kinds[first : first + len(types)], strict=True))
        for event_type, kind in wrong.items():
            (own / f"{event_type}.html").write_bytes(WRONG[kind][0])
        world.tell(len(types), types=types)
        sender.wait_for_line("Notification sent", times=4 * rounds)
        assert_packaged(world.smtp.mails[-4:])
        for event_type, kind in wrong.items():
            path, says = own / f"{event_type}.html", WRONG[kind][1]
            assert f"{path}{says}" in sender.output() if says else f"Template {path} is blank" in sender.output()

    for name in types:
        (own / f"{name}.html").unlink()
    (own / "base.html").mkdir()
    world.tell(len(types), types=types)
    assert world.judge().sent == len(world.smtp.mails)
    assert_packaged(world.smtp.mails[-4:])
    assert f"{own / 'base.html'}: IsADirectoryError: Is a directory" in sender.output()
