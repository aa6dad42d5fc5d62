"""Mail addresses, checked and split. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.utils import parseaddr

#: RFC 5321 section 4.1.2 without quoted local parts and address literals; without the routes in disguise of RFC 1123
#: section 5.2.16 (``user%elsewhere@relay``, ``elsewhere!user@relay``), which relays still follow to another recipient;
#: and without what reads as an encoded word (RFC 2047).
_ADDRESS = re.compile(
    r"(?=.{3,254}$)(?=[^@]{1,64}@)(?!.*=\?)[A-Za-z0-9#$&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9#$&'*+/=?^_`{|}~-]+)*"
    r"@[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
)


@dataclass(frozen=True, slots=True)
class Recipient:
    """Who gets a mail, and how it is worded for them."""

    #: ``local@domain``.
    address: str
    #: One of settings.LANGUAGES; empty: NOTIFICATION_LANGUAGE.
    language: str = ""
    #: Name of a time zone; empty: NOTIFICATION_TIMEZONE.
    timezone: str = ""


def is_address(text: str) -> bool:
    """Tell whether ``text`` is a bare ASCII mailbox, ``local@domain``, that means itself to every server."""
    return _ADDRESS.fullmatch(text) is not None


def split_sender(text: str) -> tuple[str, str] | None:
    """Split ``Name <local@domain>`` or ``local@domain`` into name and address; None if neither."""
    name, address = parseaddr(text)
    plain = text.strip() == address or text.strip().endswith(f"<{address}>")
    if not plain or not is_address(address) or not name.isprintable():
        return None
    return name, address


def split_addresses(text: str) -> list[str]:
    """Split comma separated addresses, dropping blanks and repeats; order is kept."""
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
