"""The RFC 5322 message around a rendered mail: headers, threads and bytes. Pure."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import datetime
from email.header import Header
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.policy import compat32
from email.utils import format_datetime, formataddr

from approval_mail.addresses import split_sender
from approval_mail.events import ApprovalEvent

#: Characters. With these in the domain a Message-ID line is 77 characters long.
MAX_ID_DOMAIN = 36
#: Where the domain cannot be shortened to fit; RFC 2606 keeps .invalid free.
FIXED_ID_DOMAIN = "approval-mail.invalid"
#: Characters. A subject of these and the header's name fit one line.
_PLAIN_SUBJECT = 65
_CRLF = compat32.clone(linesep="\r\n")


class Composer:
    """Writes the messages of one sender, ``local@domain`` or ``Name <local@domain>``."""

    def __init__(self, sender: str) -> None:
        name, address = split_sender(sender) or ("", one_line(sender))
        self._sender = _mailbox(name, address)
        self._domain = _id_domain(address.rpartition("@")[2])

    def compose(
        self, event: ApprovalEvent, recipient: str, *, date: datetime, subject: str, text: str, html: str
    ) -> bytes:
        """The message for ``recipient``: ASCII with CRLF line ends, the same bytes for the same arguments."""
        own, asked, thread = (
            message_id(event_id, recipient, self._domain)
            for event_id in (event.event_id, f"{event.request_id}:approval_requested", f"{event.request_id}:thread")
        )
        # Base64 has no underscore, so the boundary is in no part.
        mail = MIMEMultipart("alternative", boundary=f"=_{own[1:27]}")
        mail["From"] = self._sender
        mail["To"] = one_line(recipient)
        mail["Subject"] = _unstructured("Subject", one_line(subject))
        mail["Date"] = format_datetime(date)
        mail["Message-ID"] = own
        if event.kind.outcome or event.kind.recurs:
            mail["In-Reply-To"] = asked
            mail["References"] = f"{thread} {asked}"
        else:
            mail["References"] = thread
        mail["List-Id"] = f"<approval-mail.{self._domain}>"
        # RFC 3834: no out-of-office answers; Exchange wants a header of its own.
        mail["Auto-Submitted"] = "auto-generated"
        mail["X-Auto-Response-Suppress"] = "All"
        mail.attach(_part(text, "plain"))
        mail.attach(_part(html, "html"))
        return mail.as_bytes(policy=_CRLF)


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


def _part(body: str, subtype: str) -> MIMEText:
    # RFC 2045 section 6.8: line breaks are CRLF before base64.
    return MIMEText(body.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n"), subtype, "utf-8")


def _unstructured(name: str, text: str) -> str:
    """A header's text as it is if short, ASCII and no look-alike of an encoded word, else by RFC 2047."""
    if text.isascii() and len(text) <= _PLAIN_SUBJECT and "=?" not in text:
        return text
    return Header(text, "utf-8", header_name=name).encode()


def _mailbox(name: str, address: str) -> str:
    if name.isascii():
        return formataddr((name, address))
    mailbox = Header(name, "utf-8", header_name="From")
    mailbox.append(f"<{address}>", "us-ascii")
    return mailbox.encode()
