from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timedelta
from html import escape, unescape
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from approval_mail.approvals.values import Approval, Status
from approval_mail.rendering.decision_page import Form, Pages
from approval_mail.rendering.wording import MAX_ARGUMENTS

SEOUL = ZoneInfo("Asia/Seoul")
ASKED = datetime(2025, 10, 25, 15, 30, tzinfo=SEOUL)
NOW = ASKED + timedelta(seconds=8)
LANGUAGES = {"ko": "한국어", "en": "English"}
ACTIONS = ["approve", "reject"]
ENDED = [Status.APPROVED, Status.REJECTED, Status.CANCELLED, Status.EXPIRED]
TROUBLES = ["damaged", "unknown", "refused", "too_long", "unreachable", "unsure"]
PENDING = Approval(
    request_id="3f9a1c52-7b0e",
    user_id="agent-7",
    tool_name="git_commit",
    arguments={"message": "fix: 중복"},
    requested_at=ASKED,
    expires_at=ASKED + timedelta(minutes=5),
    status=Status.PENDING,
)
FORM = Form(action="approve", recipient="kim@example.com", seal="sealed", other_url="other?lang=ko")


def pages() -> Pages:
    return Pages(language="ko", languages=LANGUAGES, timezone=SEOUL)


def an_end(status: Status, **more: Any) -> Approval:
    who = "" if status is Status.EXPIRED else "minji.kim"
    reason = "" if status is Status.EXPIRED else "확인함"
    at = ASKED + timedelta(seconds=93)
    return replace(PENDING, **{"status": status, "responder_id": who, "reason": reason, "ended_at": at, **more})


def form(language: str = "ko", approval: Approval = PENDING, **more: Any) -> str:
    return pages().form(language, approval, replace(FORM, **more), NOW).html


def outcome(approval: Approval, language: str = "ko", recipient: str = "kim@example.com") -> str:
    return pages().outcome(language, approval, recipient=recipient).html


def seen(html: str) -> str:
    body = re.sub(r"(?s)<head>.*?</head>|<script.*?</script>", "", html)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", body)))


def test_a_page_leads_to_itself_in_every_other_language_under_its_own_name() -> None:
    made = Pages(language="ko", languages={"ko": "우리말", "en": "Plain English"}, timezone=SEOUL)
    for language, links in {"ko": [("en", "Plain English")], "en": [("ko", "우리말")]}.items():
        html = made.trouble(language, "damaged").html
        assert re.findall(r'<a href="\?lang=(..)" lang="\1"[^>]*>([^<]*)</a>', html) == links


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_both_languages_show_who_what_and_until_when_without_scripts(language: str, action: str) -> None:
    html = form(language, action=action)
    left = {"ko": "4분 52초 남음", "en": "4 min 52 s left"}[language]
    facts = ("agent-7", "git_commit", '"message": "fix: 중복"', "2025-10-25 15:30:00 KST", "2025-10-25 15:35:00 KST")
    for fact in (*facts, "3f9a1c52-7b0e", "kim@example.com", left):
        assert fact in seen(html)
    assert f'<html lang="{language}">' in html
    assert 'href="other?lang=ko"' in html
    assert html.count("<form") == 1
    assert '<form method="post"' in html
    assert "action=" not in html
    assert " checked" not in html
    assert not re.search(r"http-equiv|\son\w+=|style=|src=|https?://|submit\(", html)
    assert bool(re.search(r"<textarea[^>]* required", html)) is (action == "reject")


@pytest.mark.parametrize("status", ENDED)
@pytest.mark.parametrize("language", LANGUAGES)
def test_both_languages_say_how_it_ended(language: str, status: Status) -> None:
    html = outcome(an_end(status), language)
    facts = ["git_commit", "agent-7", "2025-10-25 15:35:00 KST"]
    if status is not Status.EXPIRED:
        facts += ["minji.kim", "확인함", "2025-10-25 15:31:33 KST"]
    for fact in facts:
        assert fact in seen(html)
    assert "<form" not in html
    assert "<script" not in html
    assert "None" not in html


@pytest.mark.parametrize(
    ("language", "status", "others", "own"),
    [
        ("ko", Status.APPROVED, "이미 승인된 요청입니다", "승인했습니다"),
        ("en", Status.APPROVED, "has already been approved", "You approved"),
        ("ko", Status.REJECTED, "이미 거부된 요청입니다", "거부했습니다"),
        ("en", Status.REJECTED, "has already been rejected", "You rejected"),
    ],
)
def test_who_decided_is_told_so_apart_from_who_comes_late(language: str, status: Status, others: str, own: str) -> None:
    late, mine = (outcome(an_end(status), language, who) for who in ("kim@example.com", "minji.kim"))
    assert others in seen(late)
    assert others not in seen(mine)
    assert own in re.findall("<h1>(.*?)</h1>", mine)[0]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("trouble", TROUBLES)
def test_each_trouble_has_words_of_its_own_and_names_no_request(language: str, trouble: Any) -> None:
    texts = {seen(pages().trouble(language, one).html) for one in TROUBLES}  # type: ignore[arg-type]
    assert len(texts) == len(TROUBLES)
    html = pages().trouble(language, trouble).html
    assert "<form" not in html
    assert seen(html) in texts


def test_english_pages_have_no_korean_word_but_the_other_languages_name() -> None:
    plain = replace(PENDING, arguments={"a": 1})
    documents = [
        form("en", plain, action=action, faults={"seen": "missing", "reason": "missing"}) for action in ACTIONS
    ]
    documents += [outcome(replace(an_end(status, reason="fine"), arguments=None), "en") for status in ENDED]
    documents += [pages().trouble("en", trouble).html for trouble in TROUBLES]  # type: ignore[arg-type]
    for html in documents:
        assert re.findall("[가-힣]+", html) == ["한국어"]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", '"><img src=x onerror=y>', "</textarea><b>", "{{ nonce }}"]
)
def test_what_is_shown_is_neither_markup_nor_template(language: str, text: str) -> None:
    hostile = replace(
        an_end(Status.REJECTED), user_id=text, tool_name=text, arguments={text: text}, responder_id=text, reason=text
    )
    harmless = replace(
        an_end(Status.REJECTED), user_id="x", tool_name="x", arguments={"x": "x"}, responder_id="x", reason="x"
    )
    assert tags(outcome(hostile, language)) == tags(outcome(harmless, language))
    attacked = form(language, hostile, recipient=text, seal=text, other_url=text, typed=text)
    assert tags(attacked) == tags(form(language, harmless))
    assert str(escape(text)).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in attacked


def tags(html: str) -> list[str]:
    return re.findall(r"<(/?\w+)", html)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_fault_is_named_at_its_field_and_what_was_typed_is_kept(language: str) -> None:
    html = form(language, action="reject", faults={"reason": "missing"}, typed="\n  two\nlines")
    assert 'aria-describedby="reason-fault"' in html
    assert html.count('class="fault"') == 1
    assert ">\n\n  two\nlines</textarea>" in html
    assert form(language).count('class="fault"') == 0
    assert form(language, faults={"seen": "missing", "reason": "refused"}).count('class="fault"') == 2


def test_long_arguments_are_cut_with_a_count_as_in_mails() -> None:
    html = form(approval=replace(PENDING, arguments="x" * (MAX_ARGUMENTS + 1234)))
    assert html.count("x" * MAX_ARGUMENTS) == 1
    assert "x" * (MAX_ARGUMENTS + 1) not in html
    assert "… 1,234" in html


def test_a_reader_chooses_among_the_languages_there_are() -> None:
    assert [pages().language(asked) for asked in ("en", "ko", None, "fr", "../en", "")] == ["en", *["ko"] * 5]


def test_each_document_has_a_nonce_of_its_own() -> None:
    made = [pages().form("ko", PENDING, FORM, NOW) for _ in range(2)]
    assert made[0].nonce != made[1].nonce
    for page in made:
        assert set(re.findall(r'nonce="([^"]*)"', page.html)) == {page.nonce}


def test_a_deadline_that_passed_while_pending_shows_no_negative_time() -> None:
    late = pages().form("ko", PENDING, FORM, PENDING.expires_at + timedelta(seconds=2)).html
    assert "1초 미만 남음" in late
    assert 'data-seconds="0.0"' in late
