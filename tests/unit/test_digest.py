"""One mail about many events: who stands where, what it says, how large it is, and what operators' folders do to it."""

from __future__ import annotations

import dataclasses
import email
import email.policy
import itertools
import logging
import re
import shlex
import shutil
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from approval_mail.errors import TemplateFailed
from approval_mail.events import EVENT_TYPES, ApprovalEvent
from approval_mail.fields import MAX_NAME, MAX_TEXT
from approval_mail.links import Links
from approval_mail.rendering import DIGEST, MAX_DIGEST, Content, Entry, Renderer, message_id
from approval_mail.rendering.digest import GROUPS, MAX_PAGE, in_order
from approval_mail.rendering.html_to_text import html_to_text

SEOUL = ZoneInfo("Asia/Seoul")
NOW = datetime(2025, 10, 25, 15, 30, 8, tzinfo=SEOUL)
TYPES = list(EVENT_TYPES)
LANGUAGES = ["ko", "en"]
PACKAGED = Path(__file__).parents[2] / "templates" / "emails"
LINKS = Links("https://approve.example.com", ("x" * 32,))
RECIPIENT = "operator@example.com"
#: Bytes; Gmail clips what is longer.
CLIPPED = 102 * 1024


def an_entry(
    event_type: str = "approval_requested",
    *,
    left: float | None = 300,
    ago: float = 10,
    links: bool = True,
    of_our_store: bool = True,
    **fields: Any,
) -> Entry:
    """An event that happened ``ago`` seconds before NOW, of a request with ``left`` seconds of its time."""
    at = NOW - timedelta(seconds=ago)
    data: dict[str, Any] = {
        "request_id": str(uuid.uuid4()),
        "user_id": "agent-7",
        "tool_name": "git_commit",
        "requested_at": at,
        "expires_at": None if left is None else NOW + timedelta(seconds=left),
    }
    if event_type in ("approval_approved", "approval_rejected"):
        data |= {"responder_id": "minji.kim", "reason": "테스트를 확인했습니다"}
    if EVENT_TYPES[event_type].recurs:
        data["fraction"] = "0.5"
    event = ApprovalEvent.from_dict(event_type, data | fields, now=at, localise=lambda moment: moment)
    event = dataclasses.replace(event, decidable=of_our_store)
    if links and event.decidable and event.kind.asks:
        return Entry(event, **LINKS.urls(event.request_id, RECIPIENT, event.requested_at))
    return Entry(event)


def one_of_each() -> list[Entry]:
    return [an_entry(name) for name in TYPES]


def a_renderer(folder: Path | None = None, language: str = "ko", **changes: Any) -> Renderer:
    return Renderer(
        **{"folder": folder, "language": language, "timezone": SEOUL, "sender": "admin@example.com"} | changes
    )


def rendered(entries: Sequence[Entry], language: str = "ko") -> Content:
    return a_renderer(language=language).render_digest(entries, NOW)


def parsed(message: bytes) -> EmailMessage:
    return email.message_from_bytes(message, policy=email.policy.default)  # type: ignore[return-value]


def composed(entries: Sequence[Entry], recipient: str = RECIPIENT, **changes: Any) -> bytes:
    renderer = a_renderer(**changes)
    return renderer.compose_digest(entries, renderer.render_digest(entries, NOW), recipient, NOW)


def links_of(entries: Sequence[Entry]) -> list[str]:
    return [url for entry in entries for url in (entry.approve_url, entry.reject_url) if url]


def hrefs(content: Content) -> list[str]:
    return re.findall(r'<a [^>]*href="([^"]*)"', content.html)


def visible(html: str) -> str:
    """The words of a page; what stands within a line's tags stays together."""
    body = re.sub(r"(?s)<head>.*?</head>|<!--.*?-->|</?b>", "", html)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


@pytest.fixture
def own(tmp_path: Path) -> Callable[..., Path]:
    """Lays out an operator's folder with these files, on top of the packaged ones where `full`."""

    def lay_out(files: dict[str, str], *, full: bool = False) -> Path:
        folder = tmp_path / "emails"
        if full and not folder.exists():
            shutil.copytree(PACKAGED, folder)
        folder.mkdir(exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, "utf-8")
        return folder

    return lay_out


# Order

IN_ORDER = [
    ("waiting", an_entry("approval_reminder", left=12, ago=5, request_id="r01")),
    ("waiting", an_entry(left=60, ago=900, request_id="r02")),
    ("waiting", an_entry(left=60, ago=800, request_id="r03")),
    ("waiting", an_entry(left=900, ago=2000, request_id="r04")),
    ("waiting", an_entry(left=None, ago=70, request_id="r05")),
    ("waiting", an_entry("approval_reminder", left=None, ago=60, request_id="r06")),
    ("expired", an_entry(left=-50, ago=3, request_id="r07")),
    ("expired", an_entry(left=0, ago=4, request_id="r08")),
    ("ended", an_entry(left=100, ago=30, request_id="r10")),
    ("timeout", an_entry("approval_timeout", left=-90, ago=40, request_id="r09")),
    ("timeout", an_entry("approval_timeout", left=-95, ago=30, request_id="r11")),
    ("outcome", an_entry("approval_rejected", left=5, ago=20, request_id="r10")),
    ("outcome", an_entry("approval_approved", left=1, ago=10, request_id="r12")),
]


@given(st.permutations(IN_ORDER))
@settings(max_examples=50, deadline=None)
def test_entries_stand_by_urgency_whatever_order_they_come_in(shuffled: list[tuple[str, Entry]]) -> None:
    assert in_order([entry for _, entry in shuffled], NOW) == IN_ORDER


@pytest.mark.parametrize("language", LANGUAGES)
def test_html_and_text_keep_that_order_with_one_heading_for_each_group(language: str) -> None:
    content = rendered([entry for _, entry in reversed(IN_ORDER)], language)
    wanted = [entry.event.request_id for _, entry in IN_ORDER]
    assert re.findall(r"<b>(r\d\d)</b>", content.html) == wanted
    assert re.findall(r"ID: (r\d\d) ", content.text) == wanted
    assert re.findall(r"^(\d+)\. ", content.text, re.MULTILINE) == [str(number + 1) for number in range(len(wanted))]
    assert content.html.count("<h4") == content.text.count("== \n") + len(GROUPS)
    assert len(re.findall(r"^== .* ==$", content.text, re.MULTILINE)) == len(GROUPS)


def test_the_same_events_make_the_same_mail_in_whatever_order_they_come() -> None:
    entries = [entry for _, entry in IN_ORDER]
    for some in itertools.permutations(entries[:3]):
        assert composed(some) == composed(entries[:3])
    assert composed(entries[::-1]) == composed(entries)


# Subject and preview text


@pytest.mark.parametrize(
    ("entries", "korean", "english"),
    [
        (
            [an_entry(left=292), *(an_entry() for _ in range(6))],
            "[승인 필요] 7건 (가장 급한 것: 4분 52초 남음)",
            "[Approval needed] 7 requests (most urgent: 4 min 52 s left)",
        ),
        ([an_entry(left=59)], "[승인 필요] 1건 (59초 남음)", "[Approval needed] 1 request (59 s left)"),
        (
            [an_entry("approval_reminder", left=59), an_entry("approval_timeout"), an_entry(left=-1)],
            "[승인 필요] 1건 (59초 남음), 그 외 알림 2건",
            "[Approval needed] 1 request (59 s left), 2 other notifications",
        ),
        (
            [an_entry(left=None), an_entry(left=None), an_entry("approval_approved")],
            "[승인 필요] 2건, 그 외 알림 1건",
            "[Approval needed] 2 requests, 1 other notification",
        ),
        (
            [an_entry("approval_timeout"), an_entry("approval_rejected"), an_entry(left=-1)],
            "[승인 알림] 3건",
            "[Approvals] 3 notifications",
        ),
        ([an_entry("approval_rejected")], "[승인 알림] 1건", "[Approvals] 1 notification"),
    ],
)
def test_the_subject_says_how_many_wait_and_for_how_long(entries: list[Entry], korean: str, english: str) -> None:
    for language, subject in (("ko", korean), ("en", english)):
        assert rendered(entries, language).subject == subject
        assert parsed(composed(entries, language=language))["Subject"] == subject


def test_a_request_and_its_reminder_are_one_that_waits() -> None:
    pair = [an_entry(request_id="same"), an_entry("approval_reminder", request_id="same")]
    assert rendered(pair).subject.startswith("[승인 필요] 1건 ")
    assert len(hrefs(rendered(pair))) == 4


@pytest.mark.parametrize("name", TYPES)
def test_the_preview_text_names_the_first_of_them(name: str) -> None:
    entries = [an_entry(name, tool_name=f"tool-{number}", user_id=f"user-{number}", ago=-number) for number in range(5)]
    found = re.search(r'<div class="preheader"[^>]*display: ?none[^>]*>(.*?)</div>', rendered(entries).html, re.DOTALL)
    assert found
    shown = " ".join(found[1].split())
    assert shown.startswith("tool-0 · user-0, tool-1 · user-1, tool-2 · user-2 외 2건")


# What it says


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_entry_says_who_what_and_until_when_with_links_of_its_own(language: str) -> None:
    entries = [
        an_entry(left=30 * number, tool_name=f"tool{number}x", user_id=f"user{number}x", arguments=[f"word{number}x"])
        for number in range(1, 13)
    ]
    content = rendered(entries, language)
    assert hrefs(content) == links_of(entries)
    assert re.findall(r"https://\S+", content.text) == links_of(entries)
    pages = re.split(r'<div class="entry"', content.html)[1:]
    texts = re.split(r"\n\n\d+\. ", content.text)[1:]
    for number, entry in enumerate(entries, 1):
        event = entry.event
        for part in (visible(pages[number - 1]), texts[number - 1]):
            deadline = f"{event.expires_at:%Y-%m-%d %H:%M:%S} KST"
            left = {"ko": "30초 남음", "en": "30 s left"}[language] if number == 1 else ""
            for fact in (event.tool_name, event.user_id, f"word{number}x", event.request_id, deadline, left):
                assert fact in part
            assert len(set(re.findall(r"word\d+x", part))) == 1
        assert f"<b>{event.request_id[:8]}</b>" in pages[number - 1]


def test_what_is_expired_or_ended_is_said_so_and_what_ended_has_no_links() -> None:
    expired, ended = an_entry(left=-1), an_entry(left=100, request_id="over")
    content = rendered([expired, ended, an_entry("approval_approved", request_id="over")])
    assert "이미 만료됨" in visible(content.html)
    assert "이미 만료됨" in content.text
    assert hrefs(content) == links_of([expired])
    assert re.findall(r"https://\S+", content.text) == links_of([expired])


@pytest.mark.parametrize("language", LANGUAGES)
def test_outcomes_say_who_and_why(language: str) -> None:
    content = rendered([an_entry("approval_approved"), an_entry("approval_rejected", reason="no\n\n way")], language)
    for part in (visible(content.html), content.text):
        for fact in ("minji.kim", "테스트를 확인했습니다", "no way", "2025-10-25 15:29:58 KST"):
            assert fact in part
    assert "https://" not in content.text
    nothing = rendered([an_entry(name, reason="", responder_id="") for name in ("approval_approved",)], language)
    assert {"ko": "따로 남긴 사유가 없습니다", "en": "No reason was given"}[language] in nothing.text
    assert "None" not in nothing.html + nothing.text


@pytest.mark.parametrize("request_id", ["abc", "x;reboot", "$(reboot)", "a'b", "--reason=x|sh"])
def test_without_links_there_are_commands_that_can_be_pasted(request_id: str) -> None:
    content = rendered([an_entry(links=False, request_id=request_id)])
    for part in (content.text, html_to_text(content.html)):
        (approve,), (reject,) = (
            [line for line in part.splitlines() if f"approval-admin {verb}" in line] for verb in ("approve", "reject")
        )
        assert shlex.split(approve)[:3] == ["approval-admin", "approve", request_id]
        assert shlex.split(reject)[:3] == ["approval-admin", "reject", request_id]
    assert not hrefs(content)
    assert "결정한 것은" not in content.text
    assert "확인 페이지" not in content.text


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_another_system_decides_shows_neither_command_nor_link(language: str) -> None:
    given_url = an_entry(of_our_store=False, approve_url="https://evil.example/a", reject_url="https://evil.example/r")
    for entry in (an_entry(of_our_store=False), given_url, dataclasses.replace(given_url, approve_url="https://x")):
        content = rendered([entry], language)
        for part in (content.html, content.text):
            assert {"ko": "요청한 시스템에서", "en": "in the system that asked"}[language] in part
            assert "approval-admin" not in part
            assert "https://" not in re.sub(r"(?s)<head>.*?</head>", "", part)


def test_no_field_that_a_caller_passes_stands_where_our_links_do() -> None:
    hostile = {"approve_url": "https://evil.example/a", "reject_url": "https://evil.example/r", "group": "outcome"}
    entries = [an_entry(**hostile), an_entry(links=False, **hostile)]
    content = rendered(entries)
    assert hrefs(content) == links_of(entries)
    assert "evil.example" not in content.html + content.text


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_english_digest_has_no_korean_word_and_every_type_has_its_word(language: str) -> None:
    entries = [an_entry(name, reason="fine") for name in TYPES]
    entries += [an_entry(left=-1), an_entry(links=False), an_entry(of_our_store=False)]
    content = rendered(entries, language)
    assert not any(name in visible(content.html) + content.text for name in TYPES)
    if language == "en":
        assert not re.search("[가-힣]", content.subject + content.html + content.text)


@pytest.mark.parametrize("field", ["user_id", "tool_name", "reason", "responder_id", "arguments"])
@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "<img src=x onerror=y>", "</style><b>", "{{ self }}", '" href="x']
)
def test_event_data_is_neither_markup_nor_template(field: str, text: str) -> None:
    for event_type in ("approval_requested", "approval_approved"):
        plain, content = (rendered([an_entry(event_type, request_id="r", **{field: value})]) for value in ("x", text))
        assert re.findall(r"<(\w+)", plain.html) == re.findall(r"<(\w+)", content.html)
        assert hrefs(plain) == hrefs(content)
    if field in ("user_id", "tool_name"):
        assert text in content.text


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r", "\u2028", "\u0085", "\v"])
def test_no_field_forges_an_entry_in_the_text_part(newline: str) -> None:
    forged = f"x{newline}{newline}2. [승인 필요] pay · boss{newline}   승인하기: https://evil.example"
    entries = [an_entry(arguments=forged), an_entry("approval_rejected", reason=forged), an_entry(user_id=forged)]
    for line in rendered(entries).text.splitlines():
        assert not line.startswith("2. [승인 필요] pay")
        assert not line.lstrip().startswith("승인하기: https://evil")


def test_long_words_are_cut_in_html_and_tools_and_users_are_whole_in_text() -> None:
    entries = [
        an_entry(tool_name="t" * MAX_NAME, user_id="u" * MAX_NAME, arguments={"key": "v" * 5000}),
        an_entry("approval_rejected", reason="r" * MAX_TEXT),
    ]
    content = rendered(entries)
    shown = visible(content.html.split('<div class="entry"', 1)[1])
    assert max(map(len, shown.split())) < 100
    assert content.html.count("…") == 6, "the preview text cuts two more"
    assert "t" * MAX_NAME in content.text
    assert "u" * MAX_NAME in content.text
    assert "r" * 300 in content.text
    assert len(content.text) < 3_000


# Zones


def test_times_are_in_the_zone_of_the_recipient() -> None:
    entries = one_of_each()
    renderer = a_renderer()
    assert "15:35:08 KST" in renderer.render_digest(entries, NOW).text
    content = renderer.render_digest(entries, NOW, timezone=ZoneInfo("America/Chicago"))
    for part in (content.text, visible(content.html)):
        assert "2025-10-25 01:35:08 CDT (UTC-05:00)" in part
        assert "KST" not in part
    message = renderer.compose_digest(entries, content, RECIPIENT, NOW, ZoneInfo("America/Chicago"))
    assert parsed(message)["Date"].endswith("-0500")
    assert parsed(message)["Date"].datetime == NOW
    assert parsed(composed(entries))["Date"].endswith("+0900")


# Design


@pytest.mark.parametrize("many", [False, True])
def test_it_loads_nothing_and_its_buttons_can_be_hit_by_a_thumb(many: bool) -> None:
    html = rendered([an_entry() for _ in range(MAX_DIGEST if many else 3)]).html
    assert not re.search(r"<img|<link|url\(|src=", html)
    head, body = html.split("</head>")
    assert "<style" not in body
    assert "@media (prefers-color-scheme: dark)" in head
    sheet = (
        re.search(r"\.ok, \.no \{(.*?)\}", head, re.DOTALL)
        if many
        else re.search(r'class="ok"[^>]*style="(.*?)"', body)
    )
    assert sheet
    height, padding = (re.search(rf"[; ]?{name}: (\d+)px", sheet[1]) for name in ("line-height", "padding"))
    assert height
    assert padding
    assert int(height[1]) + 2 * int(padding[1]) >= 44


def test_a_calm_digest_has_no_alarm_in_it() -> None:
    calm, urgent = rendered([an_entry("approval_approved")]), rendered([an_entry()])
    assert "border-top-color: #1d4ed8" in urgent.html
    assert "border-top-color: #1d4ed8" not in calm.html
    assert "지금 답할 요청은 없습니다" in calm.text
    assert "답이 없으면" not in calm.text + calm.html
    assert "답이 없으면" in urgent.text
    assert "답이 없으면" in urgent.html


# Size


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_full_digest_with_links_stays_below_what_gmail_shows(language: str) -> None:
    arguments = {"message": "결제 한도 검사를 승인 단계 앞으로 옮김", "files": ["payout/limits.py"]}
    entries = [an_entry(left=30 + number, arguments=arguments) for number in range(MAX_DIGEST)]
    content = rendered(entries, language)
    assert len(content.html.encode()) <= MAX_PAGE < CLIPPED
    assert sorted(hrefs(content)) == sorted(links_of(entries))
    assert content.text.count("payout/limits.py") == MAX_DIGEST
    assert visible(content.html).count("결제 한도 검사를 승인 단계 앞으로 옮김") == MAX_DIGEST, (
        "words are not cut in vain"
    )


@pytest.mark.parametrize("filler", ["x", "&", '"', "가", "🔐", "<"])
@pytest.mark.parametrize("event_type", TYPES)
def test_long_fields_take_no_more_room_than_there_is(event_type: str, filler: str) -> None:
    fields = {"user_id": f"a{filler * MAX_NAME}", "tool_name": f"b{filler * MAX_NAME}", "reason": filler * MAX_TEXT}
    entries = [
        an_entry(event_type, arguments=filler * MAX_TEXT, responder_id=fields["user_id"], **fields)
        for _ in range(MAX_DIGEST)
    ]
    for language in LANGUAGES:
        content = rendered(entries, language)
        assert len(content.html.encode()) < CLIPPED
        assert sorted(hrefs(content)) == sorted(links_of(entries))


def test_where_even_short_words_are_too_much_no_entry_and_no_link_is_lost() -> None:
    entries = [an_entry(request_id="".join(uuid.uuid4().hex for _ in range(6))) for _ in range(MAX_DIGEST)]
    content = rendered(entries)
    assert len(content.html.encode()) > CLIPPED
    assert sorted(hrefs(content)) == sorted(links_of(entries))


def test_digests_leave_no_forms_behind(own: Callable[..., Path]) -> None:
    page = "{% block content %}{% for entry in entries %}<p>{{ entry.tool_name }}</p>{% endfor %}{% endblock %}"
    for folder in (None, own({"digest.html": f'{{% extends "base.html" %}}{page}'})):
        renderer = a_renderer(folder)
        for number in range(1, 6):
            for _ in range(3):
                renderer.render_digest([an_entry() for _ in range(number)], NOW)
        assert not renderer._inliner._forms
        renderer.render(an_entry().event, NOW)
        assert len(renderer._inliner._forms) == 1


# Operators' folders


OLD_BASE = """<html><head><style>.header { color: red }</style></head><body><div class="header"><h1>Local AI</h1></div>
{% block content %}{% endblock %}<p>{{ request_id[:8] }} {{ user_id|lower }} {{ tool_name }} {{ timestamp }}</p>
</body></html>"""


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("style", [False, True])
def test_a_base_of_the_earlier_system_holds_a_digest_with_styled_buttons(
    own: Callable[..., Path], caplog: pytest.LogCaptureFixture, style: bool, many: bool
) -> None:
    entries = [an_entry() for _ in range(MAX_DIGEST)] if many else one_of_each()
    content = a_renderer(
        own({"base.html": OLD_BASE} | ({"style.css": "p { margin: 0 }"} if style else {}))
    ).render_digest(entries, NOW)
    assert "Local AI</h1>" in content.html
    assert content.subject == rendered(entries).subject
    assert sorted(hrefs(content)) == sorted(links_of(entries))
    assert "background-color: #15803d" in content.html
    assert content.text == rendered(entries).text
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_copy_of_the_folder_from_before_digests_holds_one_without_a_warning(
    own: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    base = (PACKAGED / "base.html").read_text("utf-8")
    before = re.sub(r"{% block about %}(.*?){% endblock %}", r"\1", base)
    assert before != base
    folder = own({"base.html": before}, full=True)
    for name in ("digest.html", "digest.txt", "digest.css"):
        (folder / name).unlink()
    content = a_renderer(folder).render_digest(one_of_each(), NOW)
    assert "border-top-color: #1d4ed8" in content.html
    assert not caplog.records


def test_an_own_digest_is_used_with_its_variables(own: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
    folder = own(
        {
            "digest.html": "<p>{{ count }} {{ waiting }} {{ others }} {{ event_type }} {{ time_left }} {{ dense }}"
            "{% for entry in entries %}<p>{{ entry.group }} {{ entry.tool_name }} {{ entry.ticket }}"
            '<a href="{{ entry.approve_url }}">go</a>{% endfor %}'
        },
        full=True,
    )
    (folder / "digest.txt").unlink()
    entries = [an_entry(ticket="OPS-1"), an_entry("approval_timeout", ticket="OPS-2")]
    renderer = a_renderer(folder)
    content = renderer.render_digest(entries, NOW)
    assert content.template == str(folder / "digest.html")
    assert content.subject == rendered(entries).subject
    assert content.text == (
        f"2 1 1 digest 5분 False\n\nwaiting git_commit OPS-1go <{entries[0].approve_url}>\n\n"
        "timeout git_commit OPS-2go\n"
    )
    assert renderer.sources()["digest.txt"] == str(folder / "digest.html")
    own({"digest.txt": "{{ count }} of them"})
    assert a_renderer(folder).render_digest(entries, NOW).text == "2 of them\n"
    assert not caplog.records


def test_links_that_another_system_passes_are_there_for_an_own_template(own: Callable[..., Path]) -> None:
    folder = own({"digest.html": "<p>{% for entry in entries %}{{ entry.approve_url }} {% endfor %}"})
    entries = [an_entry(of_our_store=ours, approve_url="https://app.example/yes") for ours in (False, True)]
    shown = a_renderer(folder).render_digest(entries, NOW).text.split()
    assert sorted(shown) == sorted(["https://app.example/yes", entries[1].approve_url])


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({"digest.html": "<p>\n{{ nope }}"}, "digest.html:2: UndefinedError"),
        ({"digest.html": "{% for entry in entries %}\n{{ entry.nope }}{% endfor %}"}, "digest.html:2: UndefinedError"),
        ({"digest.html": "<p>\n{% endif %}"}, "digest.html:2: TemplateSyntaxError"),
        ({"digest.html": "{# nothing #}<p></p>"}, "blank"),
        ({"digest.txt": "{{ nope }}"}, "digest.txt:1: UndefinedError"),
        ({"base.html": "\n{{ nope }}{% block content %}{% endblock %}"}, "base.html:2: UndefinedError"),
    ],
)
def test_an_own_template_that_fails_falls_back_with_one_error(
    own: Callable[..., Path], caplog: pytest.LogCaptureFixture, files: dict[str, str], what: str
) -> None:
    renderer = a_renderer(own(files, full=True))
    entries = [an_entry(tool_name="sekret_tool") for _ in range(MAX_DIGEST)]
    for _ in range(2):
        assert renderer.render_digest(entries, NOW) == rendered(entries)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert f"a digest of {MAX_DIGEST} events" in record.getMessage()
    assert what in record.getMessage()
    assert "sekret" not in record.getMessage()
    assert renderer.fault(DIGEST) is not None
    if "base.html" not in files:
        renderer.render(entries[0].event, NOW)
        assert renderer.fault("approval_requested") is None


def test_only_when_the_packaged_template_fails_too_does_rendering_fail(
    own: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(PACKAGED, tmp_path / "packaged")
    (tmp_path / "packaged" / "digest.html").write_text("{% block subject %}x{% endblock %}\n{{ nope }}", "utf-8")
    monkeypatch.setattr("approval_mail.rendering.renderer.packaged_folder", lambda: tmp_path / "packaged")
    with pytest.raises(TemplateFailed, match=r"a digest of 5 events .*packaged/digest\.html:2: UndefinedError"):
        a_renderer(own({"digest.html": "{{ nope }}"})).render_digest(one_of_each(), NOW)


# The message


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_message_is_ascii_with_short_crlf_lines_and_reads_back_equal(language: str) -> None:
    renderer = a_renderer(language=language, sender="승인 알림 <admin@example.com>")
    entries = one_of_each()
    content = renderer.render_digest(entries, NOW)
    message = renderer.compose_digest(entries, content, RECIPIENT, NOW)
    message.decode("ascii")
    lines = message.split(b"\r\n")
    assert not any(b"\r" in line or b"\n" in line for line in lines)
    assert max(map(len, lines)) <= 78
    mail = parsed(message)
    plain, html = mail.iter_parts()
    assert plain.get_content().replace("\r\n", "\n") == content.text
    assert html.get_content().replace("\r\n", "\n") == content.html
    assert mail["Subject"] == content.subject
    assert mail["To"] == RECIPIENT


def test_the_message_id_is_the_sets_and_the_recipients() -> None:
    entries = one_of_each()
    own_id = parsed(composed(entries))["Message-ID"]
    assert parsed(composed(entries[::-1]))["Message-ID"] == own_id
    renderer = a_renderer()
    later = NOW + timedelta(hours=1)
    again = renderer.compose_digest(entries, renderer.render_digest(entries, later), RECIPIENT, later)
    assert parsed(again)["Message-ID"] == own_id
    others = [
        parsed(composed(entries[1:]))["Message-ID"],
        parsed(composed(entries, "lee@example.com"))["Message-ID"],
        *(message_id(entry.event.event_id, RECIPIENT, "example.com") for entry in entries),
        *(parsed(composed([entry]))["Message-ID"] for entry in entries),
    ]
    assert len({own_id, *others}) == 1 + len(others)
    assert re.fullmatch(r"<[a-z2-7]{26}@example\.com>", own_id)


def test_a_digest_belongs_to_no_thread_and_says_that_no_answer_is_wanted() -> None:
    entries = [an_entry("approval_approved"), an_entry("approval_reminder")]
    mail = parsed(composed(entries))
    assert mail["In-Reply-To"] is None
    assert mail["References"] is None
    single = parsed(a_renderer().compose(entries[0].event, rendered(entries), RECIPIENT, NOW))
    assert [name for name in single if name not in ("In-Reply-To", "References")] == list(mail)
    for name in ("List-Id", "Auto-Submitted", "X-Auto-Response-Suppress", "From", "MIME-Version"):
        assert mail[name] == single[name]


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@given(st.lists(st.tuples(st.sampled_from(TYPES), ANY_TEXT, ANY_TEXT, ANY_TEXT), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_any_fields_make_exactly_one_well_formed_mail(rows: list[tuple[str, str, str, str]]) -> None:
    entries = [
        an_entry(name, user_id=f"u{user}", tool_name=f"t{tool}", reason=words, arguments=words)
        for name, user, tool, words in rows
    ]
    renderer = a_renderer(timezone=timezone.utc)
    content = renderer.render_digest(entries, NOW)
    message = renderer.compose_digest(entries, content, RECIPIENT, NOW)
    assert max(map(len, message.split(b"\r\n"))) <= 78
    mail = parsed(message)
    plain, html = mail.iter_parts()
    assert plain.get_content().replace("\r\n", "\n") == content.text
    assert html.get_content().replace("\r\n", "\n") == content.html
    assert sorted(hrefs(content)) == sorted(links_of(entries))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("suffix", [".html", ".txt"])
def test_a_digest_has_words_for_every_type(language: str, suffix: str) -> None:
    folder = PACKAGED / ("" if language == "ko" else language)
    text = (folder / f"digest{suffix}").read_text("utf-8")
    assert [name for name in EVENT_TYPES if f'"{name}": ' not in text] == []
