"""What the store answers, and what it is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from approval_mail.addresses import Recipient

#: What may become of a claim's mails, as `EventStore.tally` counts them; what is deferred is counted in events.
OUTCOMES = ("sent", "deferred", "dead", "suppressed")


@dataclass(frozen=True, slots=True)
class WakeUp:
    """A Celery message that has to be sent to start gather."""

    #: From now.
    seconds: float
    #: Milliseconds of the store's clock; names the wake-up. 0: one that nobody keeps account of.
    due: int = 0


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of a hook's write."""

    #: False: the event was recorded before, by another call.
    new: bool
    #: The same call told it before.
    again: bool
    #: None: no wake-up is needed.
    wake_up: WakeUp | None


@dataclass(frozen=True, slots=True)
class Survey:
    """What a gather finds when it starts."""

    #: Events that came back because their lease had run out.
    rescued: int
    due: int
    #: How many of those due are urgent.
    urgent: int
    claimed: int
    #: Events that were finished within the last timing.LATELY seconds.
    lately: int
    #: ``open``; ``held``: claim nothing; ``probe``: claim one batch to try the channel with.
    channel: str
    #: The last gather had to leave events pending for want of room, and said so.
    noted: bool


@dataclass(frozen=True, slots=True)
class Taken:
    """A due event under a lease, for which it is still to be said who receives it and which claim it goes in."""

    event_id: str
    record: str
    #: Addresses that the event names itself.
    email_to: tuple[str, ...]
    #: Who receives its open mails; None: that was never said.
    recipients: tuple[Recipient, ...] | None
    #: A whole round of it failed: its mails go one by one.
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Addressed:
    """What `EventStore.address` is told of one event."""

    event_id: str
    #: Of its claim.
    token: str
    recipients: tuple[Recipient, ...]
    #: ``open``; ``suppressed`` or ``dead``: its mails are closed at once.
    state: str = "open"
    phase: str = ""
    reason: str = ""
    #: Who receives it was settled before it was taken.
    before: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """Events under one lease, for one task."""

    token: str
    event_ids: tuple[str, ...]
    #: Its events overtake others' in Celery's queue.
    urgent: bool = False
    #: Describes it to whoever watches tasks: its first event, and how many more.
    about: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """One event of a claim that has mails to send."""

    event_id: str
    record: str
    #: Deferrals behind it; 0: round one.
    rounds: int
    #: When this try began, by the store's clock: a worker's may be off.
    begun_at: datetime
    #: When the hook was called, likewise.
    happened_at: datetime
    recipients: tuple[Recipient, ...]
    #: Addresses for which the outcome of an earlier try is unknown.
    doubtful: frozenset[str]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one try of one mail came to."""

    #: ``sent``, ``dead``, ``failed`` (may pass), ``unknown`` (may have been accepted) or
    #: ``unspent`` (not tried after all).
    state: str
    #: SMTP reply code, None where there was none.
    code: int | None = None
    #: The SMTP step, or ``render``.
    phase: str = ""
    reason: str = ""
    #: What it adds to counters.
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failure:
    """One try that failed, or a mail that died."""

    at: datetime
    event_id: str
    recipient: str
    #: ``failed`` (may pass), ``unknown`` (may have been accepted) or ``dead``.
    result: str
    #: SMTP reply code, None where there was none.
    code: int | None
    phase: str
    reason: str


@dataclass(frozen=True, slots=True)
class DeadMail:
    """One mail that will not be tried again without an operator."""

    event_id: str
    type: str
    request_id: str
    recipient: str
    reason: str
    code: int | None
    phase: str
    attempts: int
    failed_at: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """One change of state of an event, or of one mail of it."""

    at: datetime
    event_id: str
    #: Empty: the change concerns the event as a whole.
    recipient: str
    #: pending, claimed, deferred, sent, dead or suppressed; a try that failed leaves ``claimed``.
    state: str
    reason: str
    #: SMTP reply code, None where there was none.
    code: int | None
    #: Which try of the mail this was, counted from 1; None where none was made.
    attempt: int | None


@dataclass(frozen=True, slots=True)
class Counts:
    """Events by state, each counted once, and how the pipeline is doing."""

    pending: int
    deferred: int
    claimed: int
    sent: int
    dead: int
    suppressed: int
    #: Requests of the approvals store that nobody was told of by half of their window.
    untold: int
    oldest_pending_seconds: float | None
    beat_seconds_ago: float | None
    held_since: datetime | None
    held_reason: str | None
    held_next_step: str | None
