"""The vocabulary: event types and events. No I/O and no clock."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from approval_mail.errors import InvalidEvent, InvalidRecord
from approval_mail.fields import MAX_EVENT, Fields, shown


@dataclass(frozen=True, slots=True)
class EventType:
    """What differs from one type of event to the next."""

    #: The name in hooks, templates, Redis and logs.
    name: str
    #: Someone is waiting: gathered within NOTIFICATION_URGENT_TIMEOUT rather than BATCH_TIMEOUT.
    urgent: bool = False
    #: Waits for an answer: its mail has links to give it, and is pointless once the request is decided or has expired.
    asks: bool = False
    #: The word for how this event ends its request, None if it does not.
    outcome: str | None = None
    #: Ends a request that nobody answered.
    unanswered: bool = False
    #: Happens several times in the life of a request, told apart by a fraction of its window.
    recurs: bool = False
    #: The type whose page the packaged one is made from, which an operator may have replaced; empty: none.
    stands_on: str = ""


EVENT_TYPES: Mapping[str, EventType] = {
    row.name: row
    for row in (
        EventType("approval_requested", urgent=True, asks=True),
        EventType("approval_timeout", outcome="timed out", unanswered=True),
        EventType("approval_approved", outcome="approved"),
        EventType("approval_rejected", outcome="rejected"),
        EventType("approval_reminder", urgent=True, asks=True, recurs=True, stands_on="approval_requested"),
    )
}

_EVENT_ID = re.compile(rf"(?P<request>.*):(?P<kind>(?:{'|'.join(EVENT_TYPES)})(?::0\.\d+)?)", re.DOTALL)

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class ApprovalEvent:
    """Something that happened to an approval request, cleaned and checked."""

    #: A key of EVENT_TYPES.
    type: str
    request_id: str
    user_id: str
    tool_name: str
    #: When the hook was called; aware.
    occurred_at: datetime
    #: When permission was asked; aware.
    requested_at: datetime | None = None
    #: When the request runs out; aware.
    expires_at: datetime | None = None
    responder_id: str = ""
    reason: str = ""
    #: Recipients of this event in place of EMAIL_TO; empty: EMAIL_TO.
    email_to: tuple[str, ...] = ()
    #: Recipients besides those whom this event, the rules or EMAIL_TO give.
    also_to: tuple[str, ...] = ()
    #: Of the request's window, at which this one of several events of its type is due, such as ``0.5``; else empty.
    fraction: str = ""
    #: The request is kept in the approvals store, which can be asked to decide it.
    decidable: bool = False
    #: Further JSON values for templates.
    extra: Mapping[str, Any] | None = None
    #: What `to_json` answered: a hook asks twice, for the size and for the record.
    _json: str = field(default="", init=False, repr=False, compare=False)

    @property
    def event_id(self) -> str:
        """``<request_id>:<type>``, and ``:<fraction>`` if there is one: the same thing told twice is one event."""
        return f"{self.request_id}:{self.type}" + (f":{self.fraction}" if self.fraction else "")

    @property
    def kind(self) -> EventType:
        return EVENT_TYPES[self.type]

    def __str__(self) -> str:
        return f"ApprovalEvent({self.type}, {self.request_id[:8]})"

    @classmethod
    def from_dict(
        cls,
        event_type: str,
        data: Mapping[str, Any],
        *,
        now: datetime,
        localise: Callable[[datetime], datetime],
    ) -> ApprovalEvent:
        """Check and clean what a host passed; the one door for events.

        ``data`` holds request_id, user_id and tool_name (texts; numbers and UUIDs are turned into
        text), optionally requested_at and expires_at (aware datetimes or ISO 8601 text),
        responder_id, reason, email_to (a comma separated text or a list) and any further JSON
        values; a type that recurs needs a fraction (of the request's window). ``localise`` makes a
        naive datetime aware. Raises InvalidEvent naming the field.
        """
        if not isinstance(event_type, str) or event_type not in EVENT_TYPES:
            seen = shown(event_type)
            raise InvalidEvent("type", f"event type {seen} is unknown; use one of: {', '.join(EVENT_TYPES)}", seen)
        fields = Fields(event_type, data, localise)
        recurs = EVENT_TYPES[event_type].recurs
        event = cls(
            type=event_type,
            request_id=fields.request_id(),
            user_id=fields.name("user_id"),
            tool_name=fields.name("tool_name"),
            occurred_at=now,
            requested_at=fields.time("requested_at"),
            expires_at=fields.time("expires_at"),
            responder_id=fields.name("responder_id", required=False),
            reason=fields.prose("reason"),
            email_to=fields.addresses("email_to"),
            fraction=fields.fraction("fraction") if recurs else "",
            extra=fields.others("fraction") if recurs else fields.others(),
        )
        size = len(event.to_json().encode())
        if size > MAX_EVENT:
            extra = event.extra or {}
            largest = " ".join(max(extra, key=lambda name: len(json.dumps(extra[name]))).split())
            raise InvalidEvent(
                largest,
                f"{event_type}: field '{largest}' is the largest of an event of {size:,} bytes of JSON; the most is "
                f"{MAX_EVENT:,}: pass an excerpt",
            )
        return event

    def to_json(self) -> str:
        """The record as compact JSON text; ``from_json`` reads it back equal."""
        if self._json:
            return self._json
        record: dict[str, Any] = {
            "type": self.type,
            "request_id": self.request_id,
            "user_id": self.user_id,
            "tool_name": self.tool_name,
            "occurred_at": self.occurred_at.isoformat(),
        }
        if self.requested_at:
            record["requested_at"] = self.requested_at.isoformat()
        if self.expires_at:
            record["expires_at"] = self.expires_at.isoformat()
        if self.responder_id:
            record["responder_id"] = self.responder_id
        if self.reason:
            record["reason"] = self.reason
        if self.email_to:
            record["email_to"] = self.email_to
        if self.also_to:
            record["also_to"] = self.also_to
        if self.fraction:
            record["fraction"] = self.fraction
        if self.decidable:
            record["decidable"] = True
        if self.extra:
            record["extra"] = self.extra
        object.__setattr__(self, "_json", _ENCODER.encode(record))
        return self._json

    @classmethod
    def from_json(cls, text: str) -> ApprovalEvent:
        """Read ``to_json`` back; raises InvalidRecord if that is not what ``text`` is."""
        try:
            record = json.loads(text)
            for name in ("occurred_at", "requested_at", "expires_at"):
                if name in record:
                    record[name] = datetime.fromisoformat(record[name])
            for name in ("email_to", "also_to"):
                record[name] = tuple(record.get(name, ()))
            event = cls(**record)
            if event.type not in EVENT_TYPES:
                raise ValueError(f"type {event.type!r}")
            times = (event.occurred_at, event.requested_at, event.expires_at)
            if not all(time is None or time.utcoffset() is not None for time in times):
                raise ValueError("a time has no offset")
            event.to_json().encode()  # A lone surrogate can be read, and not be written again.
            texts = (event.request_id, event.user_id, event.tool_name, event.responder_id, event.reason, event.fraction)
            if not all(isinstance(text, str) for text in (*texts, *event.email_to, *event.also_to)):
                raise ValueError("a text field is not text")
            if event.extra is not None and not isinstance(event.extra, dict):
                raise ValueError("extra is not an object")
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise InvalidRecord(f"the record is not an event: {error}") from error
        return event


def split_event_id(event_id: str) -> tuple[str, str]:
    """The request's id, and what it is of the request, such as ``approval_reminder:0.5``; empty for another text."""
    found = _EVENT_ID.fullmatch(event_id)
    return (found["request"], found["kind"]) if found else (event_id, "")
