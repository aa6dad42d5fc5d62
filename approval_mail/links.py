"""The links in mails that let their recipient decide: signed, never secret beyond that. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from itsdangerous import BadData, URLSafeSerializer
from itsdangerous.encoding import base64_decode, base64_encode

from approval_mail.errors import InvalidLink

#: Of a link's path: what comes before its token.
FOLDER = "/decide/"
Action = Literal["approve", "reject"]
#: Of the token, in its order of choice.
ACTIONS: tuple[Action, ...] = ("approve", "reject")
#: A payload, which begins with a dot if it is compressed, and a signature of 32 bytes; no more goes into headers.
_TOKEN = re.compile(r"\.?[A-Za-z0-9_-]+\.([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True)
class Link:
    """What one link is for."""

    request_id: str
    #: Whom its mail was sent to, and who decides with it.
    recipient: str
    action: Action
    #: Milliseconds: when the request was asked. An id may be used again once its history is over.
    asked: int


class Links:
    """Makes and reads the links of one installation.

    ``public_url`` is where approvers reach the pages, without a slash at its end. The first of ``secrets`` signs,
    all of them are believed: a new one is put in front, the old one taken out once its links have run out.
    A link never runs out by itself: what it is for is looked up when it is used.
    """

    def __init__(self, public_url: str, secrets: Sequence[str]) -> None:
        self._public_url = public_url
        self._serializer = URLSafeSerializer(
            list(reversed(secrets)),
            salt="approval_mail.decide",
            signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
        )

    def url(self, link: Link) -> str:
        """Where the mail leads to; the same for equal links, so that a mail that is made again is the same mail."""
        return f"{self._public_url}{FOLDER}{self.token(link)}"

    def urls(self, request_id: str, recipient: str, asked: datetime | None) -> dict[str, str]:
        """All of the recipient's links, as templates name them: ``approve_url``, ``reject_url``."""
        moment = asked_at(asked)
        return {f"{action}_url": self.url(Link(request_id, recipient, action, moment)) for action in ACTIONS}

    def token(self, link: Link) -> str:
        """The last part of the link's path."""
        return str(self._serializer.dumps([link.request_id, link.recipient, ACTIONS.index(link.action), link.asked]))

    def read(self, token: str) -> Link:
        """What a token is for; raises InvalidLink if it is not ours, letter by letter."""
        try:
            _require_spelling(token)
            request_id, recipient, action, asked = self._serializer.loads(token)
            return Link(request_id, recipient, ACTIONS[action], asked)
        except (BadData, ValueError, TypeError, IndexError) as error:
            raise InvalidLink("the link is damaged, or its secret is no longer in APPROVAL_LINK_SECRET") from error


def asked_at(asked: datetime | None) -> int:
    """What a link holds of the time at which its request was asked."""
    return round(asked.timestamp() * 1000) if asked else 0


def _require_spelling(token: str) -> None:
    """Raise BadData unless this is how the token was made: its decoder skips characters and spare bits."""
    found = _TOKEN.fullmatch(token)
    if not found or base64_encode(base64_decode(found[1])).decode("ascii") != found[1]:
        raise BadData("not the spelling of a token")
