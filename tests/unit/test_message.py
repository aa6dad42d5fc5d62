"""The bytes of a mail: what a reader's parser makes of them is what the email package would have built."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from email import message_from_bytes, policy
from email.header import Header, decode_header, make_header
from email.message import Message
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.utils import format_datetime, parseaddr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from approval_mail.events import EVENT_TYPES, ApprovalEvent
from approval_mail.rendering.message import Composer, digest_id, message_id

NOW = datetime(2025, 10, 25, 6, 35, tzinfo=timezone.utc)
#: Everything that UTF-8 can hold.
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
DATES = st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1)).flatmap(  # noqa: DTZ001 - a zone is given below
    lambda naive: st.integers(-14 * 60, 14 * 60).map(
        lambda minutes: naive.replace(microsecond=0, tzinfo=timezone(timedelta(minutes=minutes)))
    )
)


def an_event(event_type: str = "approval_requested", request_id: str = "abc12345") -> ApprovalEvent:
    return ApprovalEvent.from_dict(
        event_type,
        {"request_id": request_id, "user_id": "kim", "tool_name": "git_commit", "fraction": 0.5},
        now=NOW,
        localise=_as_it_is,
    )


def _as_it_is(moment: datetime) -> datetime:
    return moment


def by_the_email_package(
    event: ApprovalEvent, recipient: str, *, sender: str, date: datetime, subject: str, text: str, html: str
) -> bytes:
    """The same mail out of objects, with what is the composer's own to choose: the threads and the boundary."""
    domain = sender.rpartition("@")[2].rstrip(">")
    own, asked, thread = (
        message_id(event_id, recipient, domain)
        for event_id in (event.event_id, f"{event.request_id}:approval_requested", f"{event.request_id}:thread")
    )
    headers = {"References": thread}
    if event.type != "approval_requested":
        headers = {"In-Reply-To": asked, "References": f"{thread} {asked}"}
    return _built(own, headers, recipient, sender=sender, date=date, subject=subject, text=text, html=html)


def _built(
    own: str,
    threads: dict[str, str],
    recipient: str,
    *,
    sender: str,
    date: datetime,
    subject: str,
    text: str,
    html: str,
) -> bytes:
    domain = sender.rpartition("@")[2].rstrip(">")
    mail = MIMEMultipart("alternative", boundary=f"=_{own[1:27]}")
    mail["From"] = sender
    mail["To"] = recipient
    mail["Subject"] = subject if subject.isascii() and "=?" not in subject else Header(subject, "utf-8")
    mail["Date"] = format_datetime(date)
    mail["Message-ID"] = own
    for name, value in threads.items():
        mail[name] = value
    mail["List-Id"] = f"<approval-mail.{domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Auto-Response-Suppress"] = "All"
    for body, subtype in ((text, "plain"), (html, "html")):
        lines = body.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n")
        mail.attach(MIMEText(lines, subtype, "utf-8"))
    return mail.as_bytes(policy=policy.compat32.clone(linesep="\r\n"))


def read(content: bytes) -> tuple[list[tuple[str, str]], list[tuple[list[tuple[str, str]], bytes]]]:
    """Headers, and each part's headers and content, as a reader sees them."""
    mail = message_from_bytes(content, policy=policy.default)
    parts = mail.get_payload()
    assert isinstance(parts, list)
    return _headers(mail), [(_headers(part), part.get_payload(decode=True)) for part in parts]  # type: ignore[misc]


def _headers(message: Message) -> list[tuple[str, str]]:
    return [(name, str(value)) for name, value in message.items()]


@given(
    event_type=st.sampled_from(sorted(EVENT_TYPES)),
    request_id=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60),
    date=DATES,
    subject=TEXT.map(lambda text: " ".join("".join(c for c in text if c.isprintable()).split())),
    text=TEXT,
    html=TEXT,
)
def test_a_mail_reads_back_as_the_email_package_would_have_built_it(
    event_type: str, request_id: str, date: datetime, subject: str, text: str, html: str
) -> None:
    event = an_event(event_type, request_id)
    sender = "Approvals <admin@example.com>"

    composed = Composer(sender).compose(event, "kim@example.com", date=date, subject=subject, text=text, html=html)

    assert read(composed) == read(
        by_the_email_package(event, "kim@example.com", sender=sender, date=date, subject=subject, text=text, html=html)
    )
    _assert_plain_lines(composed)


@given(
    event_ids=st.lists(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1), min_size=1),
    date=DATES,
    subject=TEXT.map(lambda text: " ".join("".join(c for c in text if c.isprintable()).split())),
    text=TEXT,
    html=TEXT,
)
def test_a_digest_reads_back_as_the_email_package_would_have_built_it(
    event_ids: list[str], date: datetime, subject: str, text: str, html: str
) -> None:
    sender, parts = "Approvals <admin@example.com>", {"date": date, "subject": subject, "text": text, "html": html}

    composed = Composer(sender).compose_digest(event_ids, "kim@example.com", **parts)  # type: ignore[arg-type]

    own = message_id(digest_id(event_ids), "kim@example.com", "example.com")
    assert read(composed) == read(_built(own, {}, "kim@example.com", sender=sender, **parts))  # type: ignore[arg-type]
    _assert_plain_lines(composed)


def _assert_plain_lines(composed: bytes) -> None:
    assert composed.isascii()
    assert all(len(line) <= 78 for line in composed.split(b"\r\n"))
    assert composed.count(b"\r\n") == composed.count(b"\n") == composed.count(b"\r")


def test_the_name_of_a_set_of_events_is_theirs_alone() -> None:
    names = [digest_id(ids) for ids in (["a", "b"], ["a"], ["b"], ["ab"], ["a", "b", "c"], ["a:b"])]

    assert len(set(names)) == len(names)
    assert digest_id(["b", "a", "b"]) == digest_id(["a", "b"])
    assert digest_id(["a"]) != "a"


@pytest.mark.parametrize(
    "name", ["승인" * 40, "Approvals of the payments department and its deputies, all of them, Seoul"]
)
def test_a_long_name_of_the_sender_is_folded_and_reads_back_whole(name: str) -> None:
    composed = Composer(f'"{name}" <admin@example.com>').compose(
        an_event(), "kim@example.com", date=NOW, subject="a", text="b", html="c"
    )

    assert all(len(line) <= 78 for line in composed.split(b"\r\n"))
    written = str(make_header(decode_header(message_from_bytes(composed)["From"].replace("\r\n", ""))))
    assert parseaddr(written) == (name, "admin@example.com")


def test_what_utf_8_cannot_hold_is_replaced_rather_than_lose_the_mail() -> None:
    composed = Composer("admin@example.com").compose(
        an_event(), "kim@example.com", date=NOW, subject="a", text="one \ud800 two", html="c"
    )

    assert read(composed)[1][0][1] == b"one ? two"
