from __future__ import annotations

import dataclasses
import email
import email.header
import email.policy
import json
import logging
import os
import re
import shlex
import shutil
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from approval_mail.errors import TemplateFailed
from approval_mail.events import EVENT_TYPES, MAX_EVENT, ApprovalEvent
from approval_mail.fields import MAX_NAME, MAX_TEXT
from approval_mail.rendering import DIGEST, Content, Renderer, message_id
from approval_mail.rendering.renderer import MAX_SUBJECT
from approval_mail.rendering.wording import MAX_ARGUMENTS

SEOUL = ZoneInfo("Asia/Seoul")
ASKED = datetime(2025, 10, 25, 15, 30, tzinfo=SEOUL)
EXPIRES = ASKED + timedelta(minutes=5)
NOW = ASKED + timedelta(seconds=8)
REQUEST_ID = "3f9a1c52-7b0e-4d61-9c2a-5e8f0b7d4a16"
TYPES = list(EVENT_TYPES)
OUTCOMES = [name for name, row in EVENT_TYPES.items() if row.outcome]
#: Types of mails that ask for an answer.
ASKING = [name for name, row in EVENT_TYPES.items() if row.asks]
LANGUAGES = ["ko", "en"]
APPROVE, REJECT = "https://approve.example.com/decide/abc.def", "https://approve.example.com/decide/ghi.jkl"
PACKAGED = Path(__file__).parents[2] / "templates" / "emails"
#: Bytes; Gmail clips what is longer.
CLIPPED = 102 * 1024


def an_event(event_type: str = "approval_requested", /, *, of_our_store: bool = True, **fields: Any) -> ApprovalEvent:
    data: dict[str, Any] = {
        "request_id": REQUEST_ID,
        "user_id": "agent-7",
        "tool_name": "git_commit",
        "requested_at": ASKED,
        "expires_at": EXPIRES,
    }
    if event_type in ("approval_approved", "approval_rejected"):
        data |= {"responder_id": "minji.kim", "reason": "테스트를 확인했습니다"}
    if EVENT_TYPES[event_type].recurs:
        data["fraction"] = "0.5"
    at = fields.pop("at", ASKED + timedelta(seconds=93))
    data |= fields
    event = ApprovalEvent.from_dict(event_type, data, now=at, localise=lambda moment: moment.replace(tzinfo=SEOUL))
    return dataclasses.replace(event, decidable=of_our_store)


def a_renderer(folder: Path | None = None, language: str = "ko", **given: Any) -> Renderer:
    return Renderer(
        **{"folder": folder, "language": language, "timezone": SEOUL, "sender": "admin@example.com"} | given
    )


def composed(event: ApprovalEvent, recipient: str = "kim@example.com", **given: Any) -> bytes:
    renderer = a_renderer(**given)
    return renderer.compose(event, renderer.render(event, NOW), recipient, NOW)


def parsed(message: bytes) -> EmailMessage:
    return email.message_from_bytes(message, policy=email.policy.default)  # type: ignore[return-value]


def visible(html: str) -> str:
    body = re.sub(r"(?s)<head>.*?</head>|<!--.*?-->", "", html)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


@pytest.fixture
def own(tmp_path: Path) -> Callable[..., Path]:
    """Lays out an operator's folder with these files, on top of the packaged ones where `full`."""

    def lay_out(files: dict[str, str | bytes], *, full: bool = False) -> Path:
        folder = tmp_path / "emails"
        if full and not folder.exists():
            shutil.copytree(PACKAGED, folder)
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode() if isinstance(text, str) else text)
        return folder

    return lay_out


# Subjects


@pytest.mark.parametrize(
    ("language", "event_type", "subject"),
    [
        ("ko", "approval_requested", "[승인 필요] git_commit 도구"),
        ("ko", "approval_timeout", "[타임아웃] git_commit 승인 요청"),
        ("ko", "approval_approved", "[승인됨] git_commit 도구"),
        ("ko", "approval_rejected", "[거부됨] git_commit 도구"),
        ("en", "approval_requested", "[Approval needed] git_commit"),
        ("en", "approval_timeout", "[Timed out] git_commit approval request"),
        ("en", "approval_approved", "[Approved] git_commit"),
        ("en", "approval_rejected", "[Rejected] git_commit"),
        ("ko", "approval_reminder", "[승인 대기] git_commit 도구 · 4분 52초 남음"),
        ("en", "approval_reminder", "[Still waiting] git_commit · 4 min 52 s left"),
    ],
)
def test_each_type_has_the_subject_of_the_guide(language: str, event_type: str, subject: str) -> None:
    event = an_event(event_type)
    assert a_renderer(language=language).render(event, NOW).subject == subject
    assert parsed(composed(event, language=language))["Subject"] == subject


@pytest.mark.parametrize(
    ("tool_name", "shown"),
    [
        ("R&D <x>", "R&D <x>"),
        ("&lt;b&gt; &amp;amp;", "&lt;b&gt; &amp;amp;"),
        ("a\n\t b", "a b"),
        ("{{ 7 * 7 }}{% raw %}", "{{ 7 * 7 }}{% raw %}"),
        ("👩‍🚀 배포", "👩‍🚀 배포"),
        ("=?utf-8?b?6rGw67aA65Cc?=", "=?utf-8?b?6rGw67aA65Cc?="),
    ],
)
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_tool_name_arrives_in_the_subject_as_it_is(language: str, tool_name: str, shown: str) -> None:
    event = an_event(tool_name=tool_name)
    assert shown in a_renderer(language=language).render(event, NOW).subject
    assert shown in parsed(composed(event, language=language))["Subject"]


def test_a_long_subject_is_cut() -> None:
    subject = a_renderer().render(an_event(tool_name="가" * MAX_NAME), NOW).subject
    assert len(subject) == MAX_SUBJECT
    assert subject.endswith("…")


# What a mail says


def facts(event_type: str) -> dict[str, str]:
    shared = {"user": "agent-7", "tool": "git_commit", "id": REQUEST_ID, "asked": "2025-10-25 15:30:00 KST"}
    if event_type in ASKING:
        return shared | {
            "deadline": "2025-10-25 15:35:00 KST",
            "argument": '"message": "fix: 중복 청구"',
            "approve": f"approval-admin approve {REQUEST_ID}",
            "reject": f'approval-admin reject {REQUEST_ID} --reason "',
            "sent": "2025-10-25 15:30:08 KST",
        }
    if event_type == "approval_timeout":
        return shared | {"expired": "2025-10-25 15:35:00 KST"}
    return shared | {"by": "minji.kim", "why": "테스트를 확인했습니다", "at": "2025-10-25 15:31:33 KST"}


@pytest.mark.parametrize("event_type", TYPES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_html_and_text_show_the_same_facts_in_every_language(language: str, event_type: str) -> None:
    content = a_renderer(language=language).render(an_event(event_type, arguments={"message": "fix: 중복 청구"}), NOW)
    for fact in facts(event_type).values():
        assert fact in visible(content.html)
        assert fact in content.text


@pytest.mark.parametrize(
    ("language", "event_type", "words"),
    [
        ("ko", "approval_requested", "4분 52초 남음"),
        ("en", "approval_requested", "4 min 52 s left"),
        ("ko", "approval_timeout", "실행되지 않았습니다"),
        ("en", "approval_timeout", "not run"),
        ("ko", "approval_timeout", "다시 시도하면 새 승인 요청이"),
        ("en", "approval_timeout", "tries the same action again"),
        ("ko", "approval_approved", "1분 33초"),
        ("en", "approval_rejected", "1 min 33 s"),
    ],
)
def test_html_and_text_say_what_happened(language: str, event_type: str, words: str) -> None:
    content = a_renderer(language=language).render(an_event(event_type), NOW)
    assert words in re.sub(r"\s+", " ", visible(content.html))
    assert words in content.text


@pytest.mark.parametrize("event_type", TYPES)
def test_an_english_mail_has_no_korean_word_and_names_its_language(event_type: str) -> None:
    content = a_renderer(language="en").render(an_event(event_type, reason="fine"), NOW)
    assert not re.search("[가-힣]", content.subject + content.html + content.text)
    assert '<html lang="en"' in content.html
    assert '<html lang="ko"' in a_renderer().render(an_event(event_type), NOW).html


@pytest.mark.parametrize(
    ("left", "korean", "english"),
    [
        (timedelta(milliseconds=400), "1초 미만 남음", "less than 1 s left"),
        (timedelta(seconds=59), "59초 남음", "59 s left"),
        (timedelta(minutes=5), "5분 남음", "5 min left"),
        (timedelta(hours=1, minutes=5, seconds=7), "1시간 5분 남음", "1 h 5 min left"),
        (timedelta(days=2, hours=3, minutes=9), "2일 3시간 남음", "2 d 3 h left"),
        (timedelta(0), "이미 만료되었습니다", "Already expired"),
        (timedelta(seconds=-1), "이미 만료되었습니다", "Already expired"),
    ],
)
def test_the_time_left_is_that_at_the_instant_of_sending(left: timedelta, korean: str, english: str) -> None:
    for language, words in (("ko", korean), ("en", english)):
        content = a_renderer(language=language).render(an_event(), EXPIRES - left)
        assert words in visible(content.html)
        assert words in content.text


@pytest.mark.parametrize(
    ("zone", "shown"),
    [
        ("Asia/Seoul", "2025-10-25 15:35:00 KST"),
        ("UTC", "2025-10-25 06:35:00 UTC"),
        ("America/Chicago", "2025-10-25 01:35:00 CDT (UTC-05:00)"),
        ("Asia/Kolkata", "2025-10-25 12:05:00 IST (UTC+05:30)"),
        ("America/Sao_Paulo", "2025-10-25 03:35:00 UTC-03:00"),
    ],
)
def test_times_are_in_the_configured_zone_and_name_it_unmistakably(zone: str, shown: str) -> None:
    content = a_renderer(timezone=ZoneInfo(zone)).render(an_event(), NOW)
    assert shown in content.text
    assert shown in visible(content.html)


@pytest.mark.parametrize("event_type", TYPES)
def test_a_mail_can_be_in_its_recipients_own_zone(event_type: str) -> None:
    renderer, event, chicago = a_renderer(), an_event(event_type), ZoneInfo("America/Chicago")
    content = renderer.render(event, NOW, timezone=chicago)
    for part in (content.text, visible(content.html)):
        assert "2025-10-25 01:30:00 CDT (UTC-05:00)" in part
        assert "KST" not in part
    assert content == a_renderer(timezone=chicago).render(event, NOW)
    assert renderer.render(event, NOW, timezone=None) == renderer.render(event, NOW) != content
    dates = [parsed(renderer.compose(event, content, "kim@example.com", NOW, zone))["Date"] for zone in (chicago, None)]
    assert [date.datetime for date in dates] == [NOW, NOW]
    assert [date[-5:] for date in dates] == ["-0500", "+0900"]


def test_without_a_zone_times_are_in_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert "2025-10-25 15:35:00 JST" in a_renderer(timezone=None).render(an_event(), NOW).text
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("event_type", TYPES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_unknown_is_left_out_and_never_printed_as_none(language: str, event_type: str) -> None:
    event = an_event(event_type, requested_at=None, expires_at=None, responder_id="", reason="")
    content = a_renderer(language=language).render(event, NOW)
    assert "None" not in content.html + content.text
    assert "git_commit" in content.text
    if event_type in ("approval_approved", "approval_rejected"):
        assert {"ko": "따로 남긴 사유가 없습니다", "en": "No reason was given"}[language] in content.text


def test_an_answer_before_its_request_by_a_skewed_clock_claims_no_time() -> None:
    content = a_renderer().render(an_event("approval_approved", at=ASKED - timedelta(seconds=1)), NOW)
    assert "걸린 시간" not in content.text


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_preview_text_carries_who_what_and_until_when(language: str) -> None:
    html = a_renderer(language=language).render(an_event(), NOW).html
    found = re.search(r'<div class="preheader"[^>]*display: ?none[^>]*>(.*?)</div>', html, re.DOTALL)
    assert found
    for fact in ("agent-7", "git_commit", "2025-10-25 15:35:00 KST"):
        assert fact in found[1]
    assert html.index(found[0]) < html.index("<h1")


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ({"a": [1, "나"]}, '{\n  "a": [\n    1,\n    "나"\n  ]\n}'),
        ("rm -rf ./build\n  && make", "rm -rf ./build\n  && make"),
        ("diff:\n ctx\n+    a\n     b\n   c", "diff:\n ctx\n+    a\n     b\n   c"),
        (0, "0"),
        (False, "false"),
        ([], "[]"),
    ],
)
def test_arguments_are_shown_as_text_or_laid_out_json(arguments: Any, shown: str) -> None:
    content = a_renderer().render(an_event(arguments=arguments), NOW)
    assert "\n".join(f"  {line}" for line in shown.splitlines()) in content.text
    as_html = re.search(r'<div class="code"[^>]*>(.*?)</div>', content.html, re.DOTALL)
    assert as_html
    assert not re.search(r"^ |  ", as_html[1].replace("<br>", ""), re.MULTILINE), "a space that HTML drops"
    plain = as_html[1].replace("<br>\n", "\n").replace("&nbsp;", " ").replace("&amp;", "&")
    assert plain == shown


@pytest.mark.parametrize("language", LANGUAGES)
def test_arguments_too_long_to_show_are_cut_with_a_count(language: str) -> None:
    event = an_event(arguments=["x" * 1000] * 10)
    content = a_renderer(language=language).render(event, NOW)
    total = sum(len(line) + 1 for line in ["[", *['    "' + "x" * 1000 + '"'] * 10, "]"]) - 1
    left = re.search(r"… ([\d,]+)", content.text)
    assert left
    assert abs(int(left[1].replace(",", "")) - (total - MAX_ARGUMENTS)) < 50
    assert left[0] in visible(content.html)
    assert MAX_ARGUMENTS < len(content.text) < MAX_ARGUMENTS + 2000


@pytest.mark.parametrize("filler", ["x", "&", '"', "가", "🔐", "<", "\n", "  "])
@pytest.mark.parametrize("event_type", TYPES)
def test_every_legal_event_stays_below_what_gmail_shows(event_type: str, filler: str) -> None:
    name, text = (filler * MAX_NAME)[:MAX_NAME], (filler * MAX_TEXT)[:MAX_TEXT]
    most = (MAX_EVENT - 26_000) // (len(json.dumps(text, ensure_ascii=False).encode()) * 2)
    event = an_event(
        event_type,
        request_id="&" * MAX_NAME,
        user_id=f"a{name}",
        tool_name=f"b{name}",
        responder_id=f"c{name}",
        reason=text,
        arguments=[text] * max(1, most),
        note={str(index): text for index in range(max(0, most - 1))},
    )
    for language in LANGUAGES:
        assert len(a_renderer(language=language).render(event, NOW).html.encode()) < CLIPPED


@pytest.mark.parametrize("field", ["user_id", "tool_name", "reason", "responder_id", "arguments"])
@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "<img src=x onerror=y>", "</style><b>", "{{ self }}", "{% include 'x' %}"]
)
def test_event_data_is_neither_markup_nor_template(field: str, text: str) -> None:
    for event_type in ("approval_requested", "approval_approved"):
        plain, content = (a_renderer().render(an_event(event_type, **{field: value}), NOW) for value in ("x", text))
        assert re.findall(r"<(\w+)", plain.html) == re.findall(r"<(\w+)", content.html)
    if field in ("user_id", "tool_name"):
        assert text in content.text


@pytest.mark.parametrize("request_id", ["x;reboot", "$(reboot)", "`reboot`", "a'b", "--reason=x|sh"])
def test_a_command_to_paste_cannot_run_what_a_request_id_holds(request_id: str) -> None:
    content = a_renderer().render(an_event(request_id=request_id), NOW)
    line = next(line for line in content.text.splitlines() if "approval-admin approve" in line)
    assert shlex.split(line)[:3] == ["approval-admin", "approve", request_id]
    assert not re.search(r"(?<!\\)[;|&]", re.sub(r"'[^']*'", "", line))


# How to answer


@pytest.mark.parametrize("event_type", ASKING)
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_mail_shows_the_recipients_links_before_the_commands(language: str, event_type: str) -> None:
    content = a_renderer(language=language).render(an_event(event_type), NOW, approve_url=APPROVE, reject_url=REJECT)
    assert re.findall(r'<a href="([^"]*)"', content.html) == [APPROVE, REJECT]
    assert re.findall(r"https://\S+", content.text) == [APPROVE, REJECT]
    opening = {"ko": "여는 것만으로는 아무것도 결정되지 않습니다", "en": "Nothing is decided by opening it"}[language]
    for part in (content.html, content.text):
        assert opening in part
        assert part.index(REJECT) < part.index(f"approval-admin approve {REQUEST_ID}")
    for cell in re.findall(r"<td[^>]*class=\"button[^>]*>", content.html):
        height = re.search(r'height="(\d+)"', cell)
        assert height
        assert int(height[1]) >= 44
        assert 'bgcolor="#' in cell, "Outlook shows no other ground"


@pytest.mark.parametrize("event_type", ASKING)
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_mail_about_a_request_of_another_store_shows_no_command_that_would_not_work(
    language: str, event_type: str
) -> None:
    renderer, event = a_renderer(language=language), an_event(event_type, of_our_store=False)
    where = {"ko": "이 요청을 보낸 시스템에서", "en": "in the system that asked"}[language]
    content, linked = renderer.render(event, NOW), renderer.render(event, NOW, approve_url=APPROVE, reject_url=REJECT)
    for part in (content.html, content.text):
        assert where in part
        assert "approval-admin" not in part
        assert "<a " not in part
    assert linked == content


def test_a_link_is_escaped_in_html_alone() -> None:
    content = a_renderer().render(an_event(), NOW, approve_url='https://x/?a=1&b="', reject_url=REJECT)
    assert 'href="https://x/?a=1&amp;b=' in content.html
    assert 'https://x/?a=1&b="' in content.text


def test_a_reminder_follows_the_operators_own_request(
    own: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    event = an_event("approval_reminder")
    folder = own({"approval_requested.html": "<h1>Salut</h1><p>{{ tool_name }} {{ approve_url }}"})
    renderer = a_renderer(folder)
    content = renderer.render(event, NOW, approve_url=APPROVE, reject_url=REJECT)
    assert content.subject == "[승인 대기] git_commit 도구 · 4분 52초 남음"
    assert content.text == f"Salut\n\ngit_commit {APPROVE}\n"
    assert renderer.sources()["approval_reminder.txt"] == str(folder / "approval_requested.html")
    own({"approval_requested.txt": "Bonjour {{ tool_name }}"})
    assert a_renderer(folder).render(event, NOW).text == "Bonjour git_commit\n"
    own({"approval_reminder.txt": "Encore {{ fraction }}"})
    assert a_renderer(folder).render(event, NOW).text == "Encore 0.5\n"
    own({"approval_reminder.html": "<p>Rappel"})
    assert "Rappel" in a_renderer(folder).render(event, NOW).html
    (folder / "approval_reminder.txt").unlink()
    assert a_renderer(folder).render(event, NOW).text == "Rappel\n"
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    own({"approval_reminder.html": "", "approval_requested.html": "{{ nope }}"})
    assert a_renderer(folder).render(event, NOW) == a_renderer().render(event, NOW)


def test_the_time_left_is_the_largest_thing_in_a_reminder() -> None:
    sizes = re.findall(r"font-size: ?(\d+)px", a_renderer().render(an_event("approval_reminder"), NOW).html)
    big = re.search(
        r'<p class="big" style="[^"]*font-size: ?(\d+)px', a_renderer().render(an_event("approval_reminder"), NOW).html
    )
    assert big
    assert int(big[1]) == max(map(int, sizes))


# Design


@pytest.mark.parametrize("event_type", TYPES)
def test_a_mail_loads_nothing_and_follows_dark_mode_and_narrow_screens(event_type: str) -> None:
    html = a_renderer().render(an_event(event_type), NOW).html
    assert not re.search(r"<img|<link|url\(|src=|https?://", html)
    assert "@media (prefers-color-scheme: dark)" in html
    assert "@media (max-width: 480px)" in html
    assert '<meta name="color-scheme" content="light dark">' in html
    assert 'role="presentation"' in html
    assert '<th scope="row"' in html
    assert re.search(r'<p class="lead" style="[^"]*font-size: ?22px', html)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_a_page_and_a_text_for_every_type(language: str) -> None:
    sources = a_renderer(language=language).sources()
    names = {"base.html", "duration.txt", *(f"{name}.{end}" for name in (*TYPES, DIGEST) for end in ("html", "txt"))}
    for name in ("style.css", "digest.css"):
        assert sources.pop(name) == str(PACKAGED / name), "shared by all languages"
    assert set(sources) == names
    folder = PACKAGED if language == "ko" else PACKAGED / language
    assert all(Path(path) == folder / name for name, path in sources.items())


# Template variables


def test_a_template_can_name_every_variable_in_every_type(own: Callable[..., Path]) -> None:
    names = [
        "user_id tool_name request_id request_id[:8] expires_at requested_at responder_id reason arguments",
        "event_type event_id time_left elapsed expired occurred_at timestamp arguments_text arguments_more fraction",
        "decidable approve_url reject_url ticket",
    ]
    source = "<p>" + "|".join(f"{{{{ {name} }}}}" for name in " ".join(names).split())
    folder = own({f"{name}.html": source for name in TYPES})
    for name in TYPES:
        content = a_renderer(folder).render(an_event(name, ticket="OPS-1"), NOW)
        assert content.text.startswith(f"agent-7|git_commit|{REQUEST_ID}|3f9a1c52|2025-10-25 15:35:00 KST|")
        assert content.text.endswith("|OPS-1\n")


@given(
    st.dictionaries(
        st.sampled_from(
            (
                *("self", "super", "loop", "caller", "varargs", "range", "dict", "context", "_", "0", "", "a b", "가"),
                *("lines", "shell", "subject", "time_left", "expired", "event_type", "timestamp", "elapsed"),
                *("approve_url", "reject_url", "decidable"),
            )
        ),
        st.one_of(st.text(max_size=5), st.integers(), st.none(), st.lists(st.integers(), max_size=2)),
    )
)
@settings(max_examples=60, deadline=None)
def test_extra_fields_of_any_name_change_nothing_that_is_ours(extra: dict[str, Any]) -> None:
    renderer = a_renderer()
    for name in TYPES:
        assert renderer.render(an_event(name, **extra), NOW) == renderer.render(an_event(name), NOW)


# Operators' templates


def test_the_guides_logo_and_heading_customisations_work(own: Callable[..., Path]) -> None:
    base = (PACKAGED / "base.html").read_text("utf-8")
    page = (PACKAGED / "approval_requested.html").read_text("utf-8")
    header = '<div class="header">\n    <h1>🔐 승인 워크플로우</h1>\n</div>'
    heading = "<h3>🔔 새로운 승인 요청이 발생했습니다</h3>"
    assert header in base
    assert heading in page
    logo = '<img src="https://company.com/logo.png" alt="Company Logo" style="height: 40px;">'
    changed = "<h3>🔔 New approval request received</h3>"
    folder = own(
        {
            "base.html": base.replace("    <h1>", f"    {logo}\n    <h1>"),
            "approval_requested.html": page.replace(heading, changed),
        }
    )
    content = a_renderer(folder).render(an_event(), NOW)
    assert re.search(r'<img src="https://company.com/logo.png"[^>]*style="[^"]*height: ?40px', content.html)
    assert "New approval request received</h3>" in content.html
    assert "New approval request received" in content.text
    assert content.template == str(folder / "approval_requested.html")
    assert "https://company.com/logo.png" in a_renderer(folder).render(an_event("approval_timeout"), NOW).html


OLD_BASE = """<html><head><style>.header { color: red }</style></head><body><div class="header"><h1>Local AI</h1></div>
{% block content %}{% endblock %}{% if timestamp %}<p>{{ timestamp }}</p>{% endif %}</body></html>"""
OLD_PAGE = """{% extends "base.html" %}
{% block content %}<h3>Old page</h3><p>{{ tool_name|lower }} {{ request_id[:8] }}
{{ reason if reason else "none" }}</p>{% endblock %}"""


@pytest.mark.parametrize("event_type", TYPES)
@pytest.mark.parametrize(
    "names", [("base.html",), ("{}.html",), ("base.html", "{}.html")], ids=["base", "page", "base and page"]
)
def test_templates_of_the_earlier_system_work_and_get_our_subject(
    own: Callable[..., Path], caplog: pytest.LogCaptureFixture, names: tuple[str, ...], event_type: str
) -> None:
    texts = {"base.html": OLD_BASE, "{}.html": OLD_PAGE}
    folder = own({name.format(event_type): texts[name] for name in names})
    content = a_renderer(folder).render(an_event(event_type), NOW)
    packaged = a_renderer().render(an_event(event_type), NOW)
    assert content.subject == packaged.subject
    assert ("Local AI" in content.html) is ("base.html" in names)
    assert ("Old page" in content.html) is ("{}.html" in names)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize(
    ("source", "subject"),
    [
        ("<p>no base</p>", "[승인 필요] R&D <x> 도구"),
        ('{% extends "base.html" %}{% block content %}x{% endblock %}', "[승인 필요] R&D <x> 도구"),
        ("{% block subject %}Go {{ tool_name }}?{% endblock %}<p>x</p>", "Go R&D <x>?"),
        ('{% extends "base.html" %}{% block subject %}  Go\n &amp; {{ tool_name }}{% endblock %}', "Go & R&D <x>"),
        ('{% extends "base.html" %}{% set w = "Go" %}{% block subject %}{{ w }}{% endblock %}', "Go"),
        ('{% extends "base.html" %}{% block subject %}[X] {{ super() }}{% endblock %}', "[X] [승인 필요] R&D <x> 도구"),
        ('{% extends "base.html" %}{% block subject %} {% endblock %}', "[승인 필요] R&D <x> 도구"),
    ],
)
def test_a_template_without_a_subject_block_gets_the_packaged_subject(
    own: Callable[..., Path], source: str, subject: str
) -> None:
    folder = own({"approval_requested.html": source})
    content = a_renderer(folder).render(an_event(tool_name="R&D <x>"), NOW)
    assert content.template == str(folder / "approval_requested.html")
    assert content.subject == subject


def test_an_own_page_without_own_text_gets_its_text_from_the_page(own: Callable[..., Path]) -> None:
    folder = own({"approval_requested.html": "<h1>Salut</h1><p>{{ tool_name }}<br>ligne</p>"})
    assert a_renderer(folder).render(an_event(), NOW).text == "Salut\n\ngit_commit\nligne\n"
    assert a_renderer(folder).sources()["approval_requested.txt"] == str(folder / "approval_requested.html")
    own({"approval_requested.txt": "Bonjour {{ tool_name }} <b>\n"})
    content = a_renderer(folder).render(an_event(tool_name="R&D"), NOW)
    assert content.text == "Bonjour R&D <b>\n"
    assert a_renderer(folder).sources()["approval_requested.txt"] == str(folder / "approval_requested.txt")


@pytest.mark.parametrize("blank", ["", " \n\t\n", b"\xef\xbb\xbf\n"])
def test_blank_files_fall_back_with_one_warning_each(
    own: Callable[..., Path], caplog: pytest.LogCaptureFixture, blank: str | bytes
) -> None:
    names = ["base.html", *(f"{name}.html" for name in TYPES)]
    folder = own(dict.fromkeys(names, blank))
    renderer = a_renderer(folder)
    for _ in range(3):
        for name in TYPES:
            assert renderer.render(an_event(name), NOW) == a_renderer().render(an_event(name), NOW)
    renderer.sources()
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == len(names)
    assert all(any(str(folder / name) in line for line in told) for name in names)


def test_missing_files_are_named_in_one_line(own: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
    renderer = a_renderer(own({"approval_timeout.html": "<p>{{ tool_name }}</p>"}))
    for _ in range(2):
        for name in TYPES:
            renderer.render(an_event(name), NOW)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    for name in ("base.html", "approval_requested.html", "approval_approved.html", "approval_rejected.html"):
        assert name in record.getMessage()
    assert "approval_timeout.html" not in record.getMessage()
    assert "digest" not in record.getMessage(), "folders from before there were digests need none"


def test_a_folder_that_is_gone_falls_back(tmp_path: Path) -> None:
    assert a_renderer(tmp_path / "gone").render(an_event(), NOW) == a_renderer().render(an_event(), NOW)


def test_a_flat_folder_leaves_english_mails_packaged(own: Callable[..., Path]) -> None:
    folder = own(
        {"approval_requested.html": "<p>우리 것</p>", "base.html": "<p>우리 틀{% block content %}{% endblock %}"}
    )
    assert a_renderer(folder, "en").render(an_event(), NOW) == a_renderer(language="en").render(an_event(), NOW)
    own({"en/approval_requested.html": "<p>Ours</p>"})
    assert a_renderer(folder, "en").render(an_event(), NOW).text == "Ours\n"


def test_a_further_language_is_one_more_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(PACKAGED, tmp_path / "emails")
    shutil.copytree(PACKAGED / "en", tmp_path / "emails" / "fr")
    (tmp_path / "emails" / "fr" / "duration.txt").write_text("{{ minutes }} minutes", "utf-8")
    monkeypatch.setattr("approval_mail.rendering.renderer.packaged_folder", lambda: tmp_path / "emails")
    assert "4 minutes left" in a_renderer(language="fr").render(an_event(), NOW).text


FAULTY: list[tuple[str | bytes, int, str]] = [
    ("<p>\n{{ tool_name", 2, "TemplateSyntaxError"),
    ("<p>\n\n{% endif %}", 3, "endif"),
    ("<p>\n{{ no_such_thing }}", 2, "no_such_thing"),
    ("{% block subject %}{{ no_such_thing }}{% endblock %}<p>x", 1, "no_such_thing"),
    ("<p>\n{{ arguments.message }}", 2, "message"),
    ("<p>\n{{ 1 / 0 }}", 2, "ZeroDivisionError"),
    ("<p>{{ tool_name | nosuchfilter }}", 1, "nosuchfilter"),
    ('{% extends "layout.html" %}', 1, "layout.html"),
    ('<p>\n{% include "../../secret.txt" %}', 2, "TemplateNotFound"),
    ("<p>\n{{ user_id + 1 }}", 2, "TypeError"),
    (b"<p>\n\n\xb1\xe2", 3, "UTF-8"),
    ("{% macro m() %}{{ m() }}{% endmacro %}<p>{{ m() }}", 1, "RecursionError"),
    ("{% if reason %}<p>x</p>{% endif %}", 0, "blank"),
    ("<style>p { color: red }</style><!-- x -->", 0, "blank"),
]


@pytest.mark.parametrize(("source", "line", "what"), FAULTY)
def test_a_template_that_fails_falls_back_with_an_error_naming_file_line_and_what(
    own: Callable[..., Path], caplog: pytest.LogCaptureFixture, source: str | bytes, line: int, what: str
) -> None:
    folder = own({"approval_requested.html": source}, full=True)
    (folder / "approval_requested.txt").unlink()
    renderer = a_renderer(folder)
    event = an_event(arguments={"key": "value"}, tool_name="sekret_tool")
    for _ in range(3):
        assert renderer.render(event, NOW) == a_renderer().render(event, NOW)
    (record,) = caplog.records
    message = record.getMessage()
    assert record.levelno == logging.ERROR
    assert str(event) in message
    assert f"{folder / 'approval_requested.html'}{f':{line}:' if line else ''}" in message
    assert what in message
    assert "sekret_tool" not in message
    assert "agent-7" not in message
    assert renderer.render(an_event("approval_timeout"), NOW).template == str(folder / "approval_timeout.html")


def test_a_broken_base_falls_back_and_is_the_file_that_is_named(
    own: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = own({"base.html": "<p>\n{{ compani }}\n{% block content %}{% endblock %}"}, full=True)
    assert a_renderer(folder).render(an_event(), NOW) == a_renderer().render(an_event(), NOW)
    assert f"{folder / 'base.html'}:2:" in caplog.text
    assert "'compani' is undefined" in caplog.text


def test_a_text_template_that_fails_falls_back_too(own: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
    folder = own({"approval_requested.txt": "{{ nope }}"}, full=True)
    assert a_renderer(folder).render(an_event(), NOW) == a_renderer().render(an_event(), NOW)
    assert f"{folder / 'approval_requested.txt'}:1:" in caplog.text


def test_an_error_tells_no_data_that_an_exceptions_message_holds(
    own: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = own({"approval_requested.html": "<p>{{ 'a'.index(user_id) }}{{ {}[user_id] }}"}, full=True)
    a_renderer(folder).render(an_event(user_id="sekret-user"), NOW)
    assert "ValueError" in caplog.text
    assert "sekret" not in caplog.text


def test_a_file_that_cannot_be_read_falls_back(own: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
    folder = own({}, full=True)
    (folder / "approval_requested.html").unlink()
    (folder / "approval_requested.html").mkdir()
    assert a_renderer(folder).render(an_event(), NOW) == a_renderer().render(an_event(), NOW)
    assert f"{folder / 'approval_requested.html'}: IsADirectoryError" in caplog.text


def test_an_edit_takes_effect_without_a_restart(own: Callable[..., Path]) -> None:
    folder = own({"approval_timeout.html": "<p>other</p>"})
    renderer = a_renderer(folder)
    for step, (source, shown) in enumerate(
        (("<p>first</p>", "first"), ("<p>second</p>", "second"), ("", "승인하려면"))
    ):
        own({"approval_requested.html": source})
        os.utime(folder / "approval_requested.html", ns=(step, step))
        assert shown in renderer.render(an_event(), NOW).text
    (folder / "approval_requested.html").unlink()
    assert "승인하려면" in renderer.render(an_event(), NOW).text


def test_a_mended_template_that_breaks_again_is_told_again(
    own: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    renderer = a_renderer(own({}, full=True))
    for step, source in enumerate(("{{ nope }}", "<p>well</p>", "{{ nope }}")):
        folder = own({"approval_requested.html": source})
        os.utime(folder / "approval_requested.html", ns=(step, step))
        renderer.render(an_event(), NOW)
    assert len(caplog.records) == 2


def test_only_when_the_packaged_template_fails_too_does_rendering_fail(
    own: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(PACKAGED, tmp_path / "packaged")
    (tmp_path / "packaged" / "approval_requested.html").write_text(
        "{% block subject %}x{% endblock %}\n{{ nope }}", "utf-8"
    )
    monkeypatch.setattr("approval_mail.rendering.renderer.packaged_folder", lambda: tmp_path / "packaged")
    renderer = a_renderer(own({"approval_requested.html": "{{ nope }}", "approval_timeout.html": "<p>x"}))
    with pytest.raises(TemplateFailed, match=r"packaged/approval_requested\.html:2: UndefinedError") as caught:
        renderer.render(an_event(), NOW)
    assert caught.value.__cause__ is not None
    assert renderer.render(an_event("approval_timeout"), NOW).text == "x\n"


def test_styles_of_other_hosts_or_files_are_not_fetched(own: Callable[..., Path]) -> None:
    page = '<link rel="stylesheet" href="{}"><p>x</p>'
    for target in ("http://127.0.0.1:9/x.css", "file:///etc/passwd", "/etc/hostname"):
        folder = own({"approval_requested.html": page.format(target)})
        assert a_renderer(folder).render(an_event(), NOW).text == "x\n"


# The message


@pytest.mark.parametrize("event_type", TYPES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_message_is_ascii_with_short_crlf_lines_and_reads_back_equal(language: str, event_type: str) -> None:
    renderer = a_renderer(language=language, sender="승인 알림 <admin@example.com>")
    event = an_event(event_type, arguments={"줄": "x" * 3000}, tool_name="긴이름" * 60)
    content = renderer.render(event, NOW)
    message = renderer.compose(event, content, "kim@example.com", NOW)
    message.decode("ascii")
    assert message.endswith(b"\r\n")
    lines = message.split(b"\r\n")
    assert not any(b"\r" in line or b"\n" in line for line in lines)
    assert max(map(len, lines)) <= 78
    mail = parsed(message)
    assert not [part.defects for part in mail.walk() if part.defects]
    plain, html = mail.iter_parts()
    assert (plain.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    assert plain.get_content().replace("\r\n", "\n") == content.text
    assert html.get_content().replace("\r\n", "\n") == content.html
    assert mail["Subject"] == content.subject
    assert mail["From"].addresses[0].display_name == "승인 알림"


@pytest.mark.parametrize(
    ("sender", "name", "address"),
    [
        ("admin@example.com", "", "admin@example.com"),
        ("Approval Mail <a@example.com>", "Approval Mail", "a@example.com"),
        ('"Kim, Ops" <a@example.com>', "Kim, Ops", "a@example.com"),
        ("승인 알림 <a@example.com>", "승인 알림", "a@example.com"),
    ],
)
def test_the_sender_reads_back_as_name_and_address(sender: str, name: str, address: str) -> None:
    (found,) = parsed(composed(an_event(), sender=sender))["From"].addresses
    assert (found.display_name, found.addr_spec) == (name, address)


def test_a_long_name_of_a_sender_is_folded_and_reads_back() -> None:
    message = composed(an_event(), sender=f"{'승인' * 40} <a@example.com>")
    raw = email.message_from_bytes(message)["From"]
    assert str(email.header.make_header(email.header.decode_header(raw))) == f"{'승인' * 40} <a@example.com>"
    assert max(map(len, message.split(b"\r\n"))) <= 78


def test_headers_say_who_when_and_that_no_answer_is_wanted() -> None:
    mail = parsed(composed(an_event()))
    assert mail["To"] == "kim@example.com"
    assert mail["Date"].datetime == NOW
    assert mail["Date"].endswith("+0900")
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["X-Auto-Response-Suppress"] == "All"
    assert mail["List-Id"] == "<approval-mail.example.com>"
    assert mail["MIME-Version"] == "1.0"
    headers = [name.lower() for name in mail]
    assert len(headers) == len(set(headers))


def test_a_message_is_the_same_on_every_attempt_but_for_its_date() -> None:
    renderer, event = a_renderer(), an_event()
    content = renderer.render(event, NOW)
    first, again = (a_renderer().compose(event, content, "kim@example.com", NOW) for _ in range(2))
    assert first == again
    later = parsed(renderer.compose(event, content, "kim@example.com", NOW + timedelta(hours=1)))
    assert later["Message-ID"] == parsed(first)["Message-ID"]
    assert later["Message-ID"] == message_id(event.event_id, "kim@example.com", "example.com")


def test_message_ids_differ_by_event_and_by_recipient() -> None:
    ids = {
        parsed(composed(an_event(name, request_id=request_id), recipient))["Message-ID"]
        for name in TYPES
        for request_id in ("one", "two")
        for recipient in ("kim@example.com", "lee@example.com")
    }
    assert len(ids) == len(TYPES) * 4


@pytest.mark.parametrize("event_type", [*OUTCOMES, "approval_reminder"])
def test_mails_of_one_request_are_one_thread_for_each_recipient(event_type: str) -> None:
    asked, outcome, other = (
        parsed(composed(event, recipient))
        for event, recipient in (
            (an_event(), "kim@example.com"),
            (an_event(event_type), "kim@example.com"),
            (an_event(event_type), "lee@example.com"),
        )
    )
    assert outcome["In-Reply-To"] == asked["Message-ID"]
    assert asked["In-Reply-To"] is None
    assert outcome["References"].split() == [asked["References"], asked["Message-ID"]]
    assert not set(other["References"].split()) & set(outcome["References"].split())


@pytest.mark.parametrize(
    ("domain", "used"),
    [
        ("example.com", "example.com"),
        ("localhost", "localhost"),
        ("a" * 25 + ".example.com", "approval-mail.invalid"),
        (f"{'a' * 63}.{'b' * 63}.mail.example.com", "mail.example.com"),
        (f"{'a' * 63}.com", "approval-mail.invalid"),
        ("a" * 63, "approval-mail.invalid"),
        ("", "approval-mail.invalid"),
    ],
)
def test_a_message_id_line_is_short_for_every_domain(domain: str, used: str) -> None:
    found = message_id("x" * 300, "y" * 254, domain)
    if domain == "a" * 25 + ".example.com":
        used = "example.com"
    assert re.fullmatch(rf"<[a-z2-7]{{26}}@{re.escape(used)}>", found)
    assert len(f"Message-ID: {found}") < 78


@pytest.mark.parametrize(
    "bad", ["x\r\nBcc: evil@example.com", "x\nBcc: evil@example.com", "x\r\n\r\n<b>", "x\r.\r\n\x00"]
)
def test_nothing_breaks_out_of_a_header(bad: str) -> None:
    event = ApprovalEvent("approval_approved", bad, bad, bad, NOW, ASKED, EXPIRES, bad, bad, extra={"arguments": bad})
    good = ApprovalEvent("approval_approved", "x", "x", "x", NOW, ASKED, EXPIRES, "x", "x", extra={"arguments": "x"})
    renderer = a_renderer()
    attacked = Content(bad, bad, bad, "x.html")
    for content in (renderer.render(event, NOW), attacked):
        message = renderer.compose(event, content, f"kim@example.com{bad}", NOW)
        mail = parsed(message)
        assert list(mail) == list(parsed(renderer.compose(good, content, "kim@example.com", NOW)))
        assert len(list(mail.iter_parts())) == 2
        assert mail["Bcc"] is None
        assert b"\n" not in message.replace(b"\r\n", b"")
        assert b"\r" not in message.replace(b"\r\n", b"")


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@given(name=ANY_TEXT, tool=ANY_TEXT, reason=ANY_TEXT, arguments=st.recursive(ANY_TEXT, st.lists, max_leaves=4))
@settings(max_examples=80, deadline=None)
def test_any_fields_make_exactly_one_well_formed_mail(name: str, tool: str, reason: str, arguments: Any) -> None:
    event = an_event("approval_rejected", user_id=f"u{name}", tool_name=f"t{tool}", reason=reason, arguments=arguments)
    renderer = a_renderer()
    content = renderer.render(event, NOW)
    message = renderer.compose(event, content, "kim@example.com", NOW)
    message.decode("ascii")
    assert max(map(len, message.split(b"\r\n"))) <= 78
    mail = parsed(message)
    assert mail["Subject"] == content.subject
    assert mail["To"] == "kim@example.com"
    plain, html = mail.iter_parts()
    assert plain.get_content().replace("\r\n", "\n") == content.text
    assert html.get_content().replace("\r\n", "\n") == content.html


def test_the_longest_recipient_reads_back() -> None:
    recipient = f"{'a' * 64}@{'b' * 63}.{'c' * 63}.example.com"
    assert parsed(composed(an_event(), recipient))["To"] == recipient


def test_the_date_keeps_the_instant_in_any_zone() -> None:
    renderer, event = a_renderer(timezone=timezone.utc), an_event()
    mail = parsed(renderer.compose(event, renderer.render(event, NOW), "kim@example.com", NOW))
    assert mail["Date"].datetime == NOW


def test_an_operators_words_for_spans_of_time_are_used_if_they_can_be(
    own: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = own({"duration.txt": "{{ minutes }} Min. {{ seconds }} Sek."})
    renderer = a_renderer(folder)
    assert "4 Min. 52 Sek." in renderer.render(an_event(), NOW).text
    assert renderer.sources()["duration.txt"] == str(folder / "duration.txt")
    (folder / "duration.txt").write_text("{{ minuten }}")
    assert "4분 52초" in renderer.render(an_event(), NOW).text
    assert "duration.txt:1: UndefinedError: 'minuten' is undefined" in caplog.text
    assert "duration.txt:1" in str(renderer.fault("approval_requested"))
