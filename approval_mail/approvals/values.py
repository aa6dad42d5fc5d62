"""What callers of the approvals store see. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


class Status(str, enum.Enum):
    """Where an approval request stands; all but ``pending`` are final."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    __str__ = str.__str__


@dataclass(frozen=True, slots=True)
class Approval:
    """An approval request as it was when it was read; true only if it was approved."""

    request_id: str
    user_id: str
    tool_name: str
    #: Redacted JSON.
    arguments: Any
    #: By Redis's clock; aware, as are all times here.
    requested_at: datetime
    expires_at: datetime
    status: Status
    #: Who decided, or withdrew it; empty while pending and once expired.
    responder_id: str = ""
    reason: str = ""
    #: When it was decided, withdrawn or found to have expired.
    ended_at: datetime | None = None
    #: When this was so, by Redis's clock.
    read_at: datetime | None = field(default=None, compare=False)
    #: Recipients in place of EMAIL_TO; empty: EMAIL_TO.
    email_to: tuple[str, ...] = ()
    #: When a mail server first accepted a mail about it.
    told_at: datetime | None = None
    #: Half of its window passed before any mail server had accepted a mail about it.
    untold: bool = False
    #: Further JSON values for templates.
    extra: Mapping[str, Any] | None = None

    def __bool__(self) -> bool:
        """Whether permission was given: nothing but an approval is true."""
        return self.status is Status.APPROVED

    def as_json(self) -> dict[str, Any]:
        """As a JSON object, times as ISO 8601 text in UTC with milliseconds; addresses are left out."""
        return {
            "request_id": self.request_id,
            "status": self.status.value,
            "user_id": self.user_id,
            "tool_name": self.tool_name,
            "arguments": self.arguments,
            "requested_at": _text(self.requested_at),
            "expires_at": _text(self.expires_at),
            "ended_at": _text(self.ended_at),
            "responder_id": self.responder_id,
            "reason": self.reason,
            "told_at": _text(self.told_at),
            "untold": self.untold,
        }


@dataclass(frozen=True, slots=True)
class Page:
    """Some requests of a list, newest first."""

    approvals: tuple[Approval, ...]
    #: Passed to ask for what follows; None: this is the end.
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Stats:
    """How many requests there are of each status, as long as history holds them."""

    pending: int
    approved: int
    rejected: int
    expired: int
    cancelled: int
    #: Of those pending, past half of their window without any mail about them accepted.
    untold: int


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="milliseconds") if moment else None
