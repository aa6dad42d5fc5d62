"""What a person sees of a mail: its subject and its bodies, whatever state the bytes are in."""

from __future__ import annotations

from dataclasses import dataclass
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser

from approval_mail.fields import plain


@dataclass(frozen=True, slots=True)
class Reading:
    """The parts of a mail that are shown."""

    #: One line.
    subject: str
    #: With its angle brackets; empty if there is none.
    message_id: str
    #: None if the mail has no such body.
    html: str | None
    #: None if the mail has no such body.
    text: str | None


def read(raw: bytes) -> Reading:
    """Parse a mail; never fails, for a catcher shows what others refuse."""
    message = BytesParser(policy=policy.default).parsebytes(raw)
    return Reading(
        subject=_header(message, "Subject") or "(no subject)",
        message_id=_header(message, "Message-ID"),
        html=_body(message, "html"),
        text=_body(message, "plain"),
    )


def _header(message: EmailMessage, name: str) -> str:
    try:
        return plain(str(message.get(name, "")))
    except Exception:  # The stdlib's header parser raises what it happens to: IndexError, AttributeError, ...
        return ""


def _body(message: EmailMessage, kind: str) -> str | None:
    part = message.get_body(preferencelist=(kind,))
    if part is None:
        return None
    content = part.get_payload(decode=True)
    if not isinstance(content, bytes):
        return None
    try:
        return content.decode(part.get_content_charset("utf-8"), "replace")
    except (LookupError, UnicodeError):  # There is no such charset, or it is one, such as idna, that cannot replace.
        return content.decode("utf-8", "replace")
