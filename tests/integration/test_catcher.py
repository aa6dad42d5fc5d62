"""The demo's mail server and its inbox, over real sockets."""

from __future__ import annotations

import http.client
import json
import queue
import smtplib
import socket
import time
from collections.abc import Iterator
from email.message import EmailMessage
from html import escape
from urllib.parse import urlsplit

import pytest

from approval_mail.demo.catcher import KEPT, CaughtMail, MailCatcher
from approval_mail.demo.deliveries import Call, Deliveries
from approval_mail.demo.inbox import Inbox

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>'
#: What a mail's HTML may do: its links open in tabs of their own.
LINKS_ALONE = "allow-popups allow-popups-to-escape-sandbox"


@pytest.fixture
def arrivals() -> queue.SimpleQueue[CaughtMail]:
    return queue.SimpleQueue()


@pytest.fixture
def catcher(arrivals: queue.SimpleQueue[CaughtMail]) -> Iterator[MailCatcher]:
    catcher = MailCatcher(arrivals.put)
    catcher.start()
    yield catcher
    catcher.stop()


@pytest.fixture
def inbox(catcher: MailCatcher) -> Iterator[Inbox]:
    inbox = Inbox(catcher, delay=lambda mail: 0.021 if mail.number == 1 else None, command="emit <it>")
    inbox.start()
    yield inbox
    inbox.stop()


def mail(subject: str = "[승인 필요] git_commit 도구", message_id: str = "<one@localhost>") -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = subject
    message["Message-ID"] = message_id
    message.set_content("본문 & more")
    message.add_alternative("<p>HTML 본문</p><script>alert(3)</script>", subtype="html")
    return message


def send(catcher: MailCatcher, raw: bytes, *recipients: str) -> None:
    with smtplib.SMTP("127.0.0.1", catcher.port) as client:
        client.sendmail("admin@localhost", recipients or ["operator@localhost"], raw)


def get(inbox: Inbox, path: str, host: str | None = None) -> tuple[http.client.HTTPResponse, str]:
    connection = http.client.HTTPConnection(urlsplit(inbox.url).netloc, timeout=10)
    try:
        connection.request("GET", path, headers={"Host": host} if host else {})
        response = connection.getresponse()
        return response, response.read().decode()
    finally:
        connection.close()


def test_a_mail_is_kept_as_it_came_over_the_wire(catcher: MailCatcher, arrivals: queue.SimpleQueue[CaughtMail]) -> None:
    before = time.monotonic()

    send(catcher, b"Subject: one\r\n\r\n.a line with a dot\r\n", "a@localhost", "b@localhost")

    caught = arrivals.get(timeout=10)
    assert caught.raw == b"Subject: one\r\n\r\n.a line with a dot\r\n"
    assert (caught.number, caught.sender) == (1, "admin@localhost")
    assert caught.recipients == ("a@localhost", "b@localhost")
    assert before <= caught.monotonic <= time.monotonic()
    assert caught.at.tzinfo is not None
    assert catcher.mails == (caught,)


def test_a_mail_is_there_once_the_client_has_its_250(catcher: MailCatcher) -> None:
    send(catcher, b"Subject: one\r\n\r\n\r\n")

    assert len(catcher.mails) == 1


def test_the_oldest_mails_are_forgotten_first(catcher: MailCatcher) -> None:
    with smtplib.SMTP("127.0.0.1", catcher.port) as client:
        for number in range(KEPT + 2):
            client.sendmail("admin@localhost", ["operator@localhost"], f"Subject: {number}\r\n\r\n".encode())

    assert [caught.number for caught in catcher.mails] == list(range(3, KEPT + 3))


def test_a_session_left_open_does_not_delay_the_end() -> None:
    catcher = MailCatcher()
    catcher.start()
    with socket.create_connection(("127.0.0.1", catcher.port)) as client:
        client.settimeout(10)
        assert client.recv(1024).startswith(b"220 ")

        catcher.stop()

        assert client.recv(1024) == b""


def test_the_list_tells_subject_recipient_time_and_delay_newest_first(catcher: MailCatcher, inbox: Inbox) -> None:
    send(catcher, mail().as_bytes())
    send(catcher, mail("second").as_bytes(), "other@localhost")

    second, first = json.loads(get(inbox, "/mails.json")[1])

    at = f"{catcher.mails[0].at.astimezone():%H:%M:%S}"
    assert first == {
        "number": 1,
        "subject": "[승인 필요] git_commit 도구",
        "to": "operator@localhost",
        "time": at,
        "delay": "0.02 s",
    }
    assert (second["subject"], second["to"], second["delay"]) == ("second", "other@localhost", "")
    page = get(inbox, "/")[1]
    assert page.index("second") < page.index("[승인 필요] git_commit 도구")
    assert "emit &lt;it&gt;" in page


def test_a_mail_is_shown_as_html_text_and_source(catcher: MailCatcher, inbox: Inbox) -> None:
    send(catcher, mail().as_bytes())

    assert f'<iframe sandbox="{LINKS_ALONE}" src="/mails/1/body"' in get(inbox, "/mails/1")[1]
    assert "HTML 본문" in get(inbox, "/mails/1/body")[1]
    assert "<pre>본문 &amp; more" in get(inbox, "/mails/1/text")[1]
    assert "Message-ID: &lt;one@localhost&gt;" in get(inbox, "/mails/1/source")[1]
    response, source = get(inbox, "/mails/1/mail.eml")
    assert source.encode() == catcher.mails[0].raw
    assert response.headers["Content-Disposition"] == 'attachment; filename="mail-1.eml"'


def test_a_mail_without_html_opens_as_text(catcher: MailCatcher, inbox: Inbox) -> None:
    send(catcher, b"Subject: plain\r\n\r\nonly text\r\n")

    page = get(inbox, "/mails/1")[1]

    assert "<pre>only text" in page
    assert "<iframe" not in page
    assert "/mails/1/html" not in page


@pytest.mark.parametrize("path", ["/", "/mails/1", "/mails/1/text", "/mails/1/source"])
def test_nothing_out_of_a_mail_is_markup(catcher: MailCatcher, inbox: Inbox, path: str) -> None:
    raw = f"Subject: {HOSTILE}\r\nContent-Type: text/plain\r\n\r\n{HOSTILE}\r\n".encode()
    with smtplib.SMTP("127.0.0.1", catcher.port) as client:
        client.ehlo()
        client.docmd("MAIL", "FROM:<admin@localhost>")
        assert client.docmd("RCPT", 'TO:<"<b>bold</b>"@localhost>')[0] == 250
        client.data(raw)

    page = get(inbox, path)[1]

    assert escape(HOSTILE) in page
    assert HOSTILE not in page
    assert "<script>alert" not in page
    assert "<b>bold" not in page


def test_a_mails_html_is_sandboxed_and_has_no_network(catcher: MailCatcher, inbox: Inbox) -> None:
    send(catcher, mail().as_bytes())

    response, _ = get(inbox, "/mails/1/body")

    assert response.headers["Content-Security-Policy"].startswith(f"sandbox {LINKS_ALONE}; default-src 'none'; ")
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_a_page_runs_only_its_own_script(catcher: MailCatcher, inbox: Inbox) -> None:
    send(catcher, mail().as_bytes())

    first, second = (get(inbox, "/mails/1")[0].headers["Content-Security-Policy"] for _ in range(2))

    assert first.startswith("default-src 'none'; ")
    assert "unsafe" not in first
    assert first != second, "the nonce is fresh each time"


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:8080", 200), ("127.0.0.1", 200), ("evil.example", 421), ("127.0.0.1.evil.example:80", 421)],
)
def test_a_foreign_host_name_is_refused(inbox: Inbox, host: str, status: int) -> None:
    assert get(inbox, "/mails.json", host)[0].status == status


@pytest.mark.parametrize("path", ["/mails/9", "/mails/x", "/mails/1/../../etc/passwd", "/favicon.ico"])
def test_what_is_not_there_is_a_404(inbox: Inbox, path: str) -> None:
    assert get(inbox, path)[0].status == 404


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"no header at all\r\n",
        b"Subject: =?utf-8?b?broken\r\nMessage-ID: <[\r\n\r\nbody\r\n",
        b"Content-Type: text/html; charset=no-such\r\n\r\n\xff\xfe\r\n",
        b"Content-Type: text/html; charset=idna\r\n\r\n\xff\xfe\r\n",
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--y\r\n",
        b"Subject: \xed\x95\x9c\r\nFrom: \xff\r\n\r\n\xff\r\n",
    ],
)
def test_a_malformed_mail_is_shown_all_the_same(catcher: MailCatcher, inbox: Inbox, raw: bytes) -> None:
    send(catcher, raw)

    for path in ("/", "/mails.json", "/mails/1", "/mails/1/source", "/mails/1/text", "/mails/1/body"):
        assert get(inbox, path)[0].status == 200, path


def test_a_mail_answers_the_call_that_names_its_message_id(
    catcher: MailCatcher, arrivals: queue.SimpleQueue[CaughtMail]
) -> None:
    deliveries = Deliveries()
    deliveries.expect(Call("approval_requested", "<one@localhost>", at=100.0))
    deliveries.expect(Call("approval_approved", "<two@localhost>", at=100.0))
    for message_id in ("<other@localhost>", "<two@localhost>", "<two@localhost>"):
        send(catcher, mail(message_id=message_id).as_bytes())
        deliveries.arrived(arrivals.get(timeout=10))

    assert deliveries.missing() == ["approval_requested"]
    other, two, copy = catcher.mails
    assert deliveries.delay(two) == two.monotonic - 100.0
    assert deliveries.delay(other) is None
    assert deliveries.delay(copy) is None
