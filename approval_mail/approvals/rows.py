"""What the scripts of the approvals store are told, and what they answer. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from approval_mail.approvals.values import Status
from approval_mail.store import WakeUp

#: A request id of the approvals store: it stands in paths of URLs and on command lines.
REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}")
#: A time of Redis's clock as the store writes it.
_MILLISECONDS = re.compile(r"[1-9][0-9]{11,13}")
#: Requests that one call reads or moves at the most.
CHUNK = 200


@dataclass(frozen=True, slots=True)
class Pace:
    """How events are gathered, as a script that records one has to know."""

    #: Events.
    batch_size: int
    #: Seconds.
    batch_timeout: float
    #: Seconds.
    urgent_timeout: float


@dataclass(frozen=True, slots=True)
class Kept:
    """One request as it lies in Redis; times are milliseconds of Redis's clock."""

    request_id: str
    #: The hash's fields.
    fields: dict[str, str]
    #: When it was read.
    now: int

    @property
    def is_sound(self) -> bool:
        """It is what was written; someone may have changed it by hand."""
        times = [self.fields.get(name, "") for name in ("asked", "expires")]
        times += [self.fields[name] for name in ("told", "ended") if name in self.fields]
        return (
            self.fields.get("status") in set(Status)
            and "record" in self.fields
            and all(_MILLISECONDS.fullmatch(text) for text in times)
        )

    @property
    def status(self) -> Status:
        return Status(self.fields["status"])

    @property
    def asked(self) -> int:
        return int(self.fields["asked"])

    @property
    def expires(self) -> int:
        return int(self.fields["expires"])

    @property
    def is_over(self) -> bool:
        """It has run out, and nobody has put that on record yet."""
        return self.status is Status.PENDING and self.expires <= self.now


@dataclass(frozen=True, slots=True)
class Ending:
    """How a request is to end."""

    status: Status
    #: Names the call: told again, it has ended the request already.
    nonce: str
    responder: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a script made of a change."""

    #: A word of the script's.
    word: str
    wake_up: WakeUp | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """What the clock asks for."""

    #: Past their deadline.
    expired: tuple[str, ...]
    #: Pairs of request id and fraction.
    reminders: tuple[tuple[str, str], ...]
    #: Half of their window is over; no mail server may have accepted a mail about them.
    unheard: tuple[str, ...]

    @property
    def more(self) -> bool:
        """There may be more of it."""
        return max(len(self.expired), len(self.reminders), len(self.unheard)) >= CHUNK
