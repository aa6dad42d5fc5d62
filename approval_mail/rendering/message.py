"""The RFC 5322 message around a rendered mail: headers, threads and bytes. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from datetime import datetime
from email.header import Header
from email.policy import compat32
from email.utils import format_datetime, formataddr
from functools import lru_cache

from approval_mail.addresses import split_sender
from approval_mail.events import ApprovalEvent

#: Characters. With these in the domain a Message-ID line is 77 characters long.
MAX_ID_DOMAIN = 36
#: Where the domain cannot be shortened to fit; RFC 2606 keeps .invalid free.
FIXED_ID_DOMAIN = "approval-mail.invalid"
#: Characters. A subject of these and the header's name fit one line.
_PLAIN_SUBJECT = 65
#: Characters of base64 on a line (RFC 2045 section 6.8).
_BASE64_LINE = 76
#: A multipart/alternative of text and HTML, the preferred one last (RFC 2046 section 5.1.4). The email package would
#: build the same from objects and take seven times as long. RFC 3834: no out-of-office answers; Exchange wants a header
#: of its own.
_MESSAGE = """\
Content-Type: multipart/alternative; boundary="{boundary}"
MIME-Version: 1.0
{sender}
To: {recipient}
Subject: {subject}
Date: {date}
{ids}
List-Id: <approval-mail.{domain}>
Auto-Submitted: auto-generated
X-Auto-Response-Suppress: All

--{boundary}
Content-Type: text/plain; charset="utf-8"
MIME-Version: 1.0
Content-Transfer-Encoding: base64

{text}

--{boundary}
Content-Type: text/html; charset="utf-8"
MIME-Version: 1.0
Content-Transfer-Encoding: base64

{html}

--{boundary}--
""".replace("\n", "\r\n")


class Composer:
    """Writes the messages of one sender, ``local@domain`` or ``Name <local@domain>``."""

    def __init__(self, sender: str) -> None:
        name, address = split_sender(sender) or ("", one_line(sender))
        self._sender = _from(name, address)
        self._domain = _id_domain(address.rpartition("@")[2])

    def compose(
        self, event: ApprovalEvent, recipient: str, *, date: datetime, subject: str, text: str, html: str
    ) -> bytes:
        """The message for ``recipient``: ASCII with CRLF line ends, the same bytes for the same arguments."""
        own = message_id(event.event_id, recipient, self._domain)
        thread = f"References: {message_id(f'{event.request_id}:thread', recipient, self._domain)}"
        if event.kind.outcome or event.kind.recurs:
            asked = message_id(f"{event.request_id}:approval_requested", recipient, self._domain)
            # On two lines, as one would be too long.
            thread = f"In-Reply-To: {asked}\r\n{thread}\r\n {asked}"
        return self._write(recipient, own, thread, date=date, subject=subject, text=text, html=html)

    def compose_digest(
        self, event_ids: Iterable[str], recipient: str, *, date: datetime, subject: str, text: str, html: str
    ) -> bytes:
        """The message that tells ``recipient`` of several events; it belongs to no request's thread."""
        own = message_id(digest_id(event_ids), recipient, self._domain)
        return self._write(recipient, own, "", date=date, subject=subject, text=text, html=html)

    def _write(
        self, recipient: str, own: str, thread: str, *, date: datetime, subject: str, text: str, html: str
    ) -> bytes:
        return _MESSAGE.format(
            # Base64 has no underscore, so the boundary is in no part.
            boundary=f"=_{own[1:27]}",
            sender=self._sender,
            recipient=one_line(recipient),
            subject=_unstructured(one_line(subject)),
            date=format_datetime(date),
            ids=f"Message-ID: {own}\r\n{thread}" if thread else f"Message-ID: {own}",
            domain=self._domain,
            text=_base64(text),
            html=_base64(html),
        ).encode("ascii", "replace")


def digest_id(event_ids: Iterable[str]) -> str:
    """What stands for a set of events where a mail's Message-ID needs one event's id; no event has it."""
    return "\n".join(("digest", *sorted(set(event_ids))))


def message_id(event_id: str, recipient: str, sender_domain: str) -> str:
    """The Message-ID, ``<...>``, of the mail that is one event for one recipient; always the same.

    A header line with it has less than 78 characters: of a long ``sender_domain`` as many of its
    last labels stand as fit, and FIXED_ID_DOMAIN where fewer than two do.
    """
    digest = hashlib.sha256(f"{event_id}\0{recipient}".encode("utf-8", "surrogatepass")).digest()
    return f"<{base64.b32encode(digest[:16]).decode().rstrip('=').lower()}@{_id_domain(sender_domain)}>"


def one_line(text: str) -> str:
    """``text`` without control characters, on one line; no header can be broken out of with it."""
    return " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text).split())


def _id_domain(domain: str) -> str:
    if 0 < len(domain) <= MAX_ID_DOMAIN:
        return domain
    labels = domain.split(".")
    while len(labels) > 1:
        del labels[0]
        shorter = ".".join(labels)
        if len(labels) > 1 and len(shorter) <= MAX_ID_DOMAIN:
            return shorter
    return FIXED_ID_DOMAIN


def _base64(body: str) -> str:
    # RFC 2045 section 6.8: line breaks are CRLF before base64.
    lines = body.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n")
    encoded = binascii.b2a_base64(lines.encode("utf-8", "replace"), newline=False).decode("ascii")
    # A list, for joining one is a third faster than joining what a generator gives.
    return "\r\n".join([encoded[at : at + _BASE64_LINE] for at in range(0, len(encoded), _BASE64_LINE)])


@lru_cache(maxsize=1024)
def _unstructured(text: str) -> str:
    """A Subject's text as it is if short, ASCII and no look-alike of an encoded word, else by RFC 2047."""
    if text.isascii() and len(text) <= _PLAIN_SUBJECT and "=?" not in text:
        return text
    return Header(text, "utf-8", header_name="Subject").encode(linesep="\r\n")


def _from(name: str, address: str) -> str:
    """The header From, folded where it is long."""
    if name.isascii():
        mailbox = formataddr((name, address))
    else:
        encoded = Header(name, "utf-8", header_name="From")
        encoded.append(f"<{address}>", "us-ascii")
        mailbox = encoded.encode()
    return compat32.clone(linesep="\r\n").fold("From", mailbox).removesuffix("\r\n")
