"""The vocabulary: event types, events, addresses. No I/O and no clock."""

from __future__ import annotations

import json
import math
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parseaddr
from typing import Any

from dateutil.parser import isoparse

from approval_mail.errors import InvalidEvent, InvalidRecord


@dataclass(frozen=True, slots=True)
class EventType:
    """What differs from one type of event to the next."""

    #: The name in hooks, templates, Redis and logs.
    name: str
    #: Someone is waiting: gathered within NOTIFICATION_URGENT_TIMEOUT rather than BATCH_TIMEOUT.
    urgent: bool = False
    #: A late mail of this type is pointless once the request is decided or has expired.
    moot_when_decided: bool = False
    #: The word for how this event ends its request, None if it does not.
    outcome: str | None = None


EVENT_TYPES: Mapping[str, EventType] = {
    row.name: row
    for row in (
        EventType("approval_requested", urgent=True, moot_when_decided=True),
        EventType("approval_timeout", outcome="timed out"),
        EventType("approval_approved", outcome="approved"),
        EventType("approval_rejected", outcome="rejected"),
    )
}

#: Characters. Longest request_id; it is part of Redis keys and of every log line.
MAX_REQUEST_ID = 200
#: Characters. Longest user_id, tool_name and responder_id; they go into subjects and are cut here.
MAX_NAME = 200
#: Characters. Longest text kept of a reason and of each text within the extra fields.
MAX_TEXT = 4_000
#: Bytes of JSON. All fields of an event together, after cutting.
MAX_EVENT = 64 * 1024
#: Addresses in ``email_to``.
MAX_RECIPIENTS = 50

#: C0 and C1 controls but tab and line feed, bidirectional controls (they reorder what is read),
#: byte order mark, line separators and lone surrogates.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_REQUEST_ID = re.compile(r"[\x21-\x7e]+")
#: RFC 5321 section 4.1.2 without quoted local parts and address literals.
_ADDRESS = re.compile(
    r"(?=.{3,254}$)(?=[^@]{1,64}@)[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
)


def is_address(text: str) -> bool:
    """Tell whether ``text`` is a bare ASCII mailbox, ``local@domain``, of RFC 5321 section 4.1.2."""
    return _ADDRESS.fullmatch(text) is not None


def split_sender(text: str) -> tuple[str, str] | None:
    """Split ``Name <local@domain>`` or ``local@domain`` into name and address; None if neither."""
    name, address = parseaddr(text)
    plain = text.strip() == address or text.strip().endswith(f"<{address}>")
    if not plain or not is_address(address) or _UNSAFE.search(name):
        return None
    return name, address


def split_addresses(text: str) -> list[str]:
    """Split comma separated addresses, dropping blanks and repeats; order is kept."""
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


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
    #: Further JSON values for templates.
    extra: Mapping[str, Any] | None = None

    @property
    def event_id(self) -> str:
        """``<request_id>:<type>``: the same thing told twice is one event."""
        return f"{self.request_id}:{self.type}"

    @property
    def kind(self) -> EventType:
        return EVENT_TYPES[self.type]

    def __str__(self) -> str:
        return f"ApprovalEvent({self.type}, {self.request_id[:8]})"

    @classmethod
    def from_dict(
        cls,
        type_name: str,
        data: Mapping[str, Any],
        *,
        now: datetime,
        localise: Callable[[datetime], datetime],
    ) -> ApprovalEvent:
        """Check and clean what a host passed; the one door for events.

        ``data`` holds request_id, user_id and tool_name (texts; numbers and UUIDs are turned into
        text), optionally requested_at and expires_at (aware datetimes or ISO 8601 text),
        responder_id, reason, email_to (a comma separated text or a list) and any further JSON
        values. ``localise`` makes a naive datetime aware. Raises InvalidEvent naming the field.
        """
        if type_name not in EVENT_TYPES:
            raise InvalidEvent("type", f"event type {type_name!r} is unknown; use one of: {', '.join(EVENT_TYPES)}")
        fields = _Fields(type_name, data, localise)
        event = cls(
            type=type_name,
            request_id=fields.request_id(),
            user_id=fields.name("user_id"),
            tool_name=fields.name("tool_name"),
            occurred_at=now,
            requested_at=fields.time("requested_at"),
            expires_at=fields.time("expires_at"),
            responder_id=fields.name("responder_id", required=False),
            reason=_cut(clean(fields.text("reason")), MAX_TEXT),
            email_to=fields.addresses("email_to"),
            extra=fields.extra(),
        )
        size = len(event.to_json())
        if size > MAX_EVENT:
            raise InvalidEvent(
                "extra",
                f"{type_name}: the extra fields make the event {size:,} bytes of JSON; the most is "
                f"{MAX_EVENT:,}: pass an excerpt",
            )
        return event

    def to_json(self) -> str:
        """The record as compact JSON text; ``from_json`` reads it back equal."""
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
        if self.extra:
            record["extra"] = self.extra
        return json.dumps(record, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> ApprovalEvent:
        """Read ``to_json`` back; raises InvalidRecord if that is not what ``text`` is."""
        try:
            record = json.loads(text)
            for name in ("occurred_at", "requested_at", "expires_at"):
                if name in record:
                    record[name] = datetime.fromisoformat(record[name])
            record["email_to"] = tuple(record.get("email_to", ()))
            event = cls(**record)
            if event.type not in EVENT_TYPES or not event.occurred_at.tzinfo:
                raise ValueError(f"type {event.type!r} at {event.occurred_at}")
        except (ValueError, TypeError, AttributeError) as error:
            raise InvalidRecord(f"the record is not an event: {error}") from error
        return event


class _Fields:
    """Reads one mapping field by field; each method raises InvalidEvent naming the field."""

    _OWN = frozenset(
        ("request_id", "user_id", "tool_name", "requested_at", "expires_at", "responder_id", "reason", "email_to")
    )

    def __init__(self, type_name: str, data: Mapping[str, Any], localise: Callable[[datetime], datetime]) -> None:
        if not isinstance(data, Mapping):
            raise InvalidEvent(
                "data", f"{type_name}: the data is {_seen(data)}; pass a dict with request_id, user_id, tool_name"
            )
        self._type = type_name
        self._data = data
        self._localise = localise

    def _refuse(self, field: str, fault: str) -> InvalidEvent:
        return InvalidEvent(field, f"{self._type}: field '{field}' {fault}")

    def text(self, field: str) -> str:
        value = self._data.get(field)
        if value is None:
            return ""
        if isinstance(value, bool) or not isinstance(value, (str, int, uuid.UUID)):
            raise self._refuse(field, f"is {_seen(value)}; pass text")
        if isinstance(value, int) and value.bit_length() > _MAX_INT_BITS:
            raise self._refuse(field, "is a number that is too long; pass text")
        return str(value).strip()

    def request_id(self) -> str:
        text = self._required("request_id")
        if len(text) > MAX_REQUEST_ID or not _REQUEST_ID.fullmatch(text):
            raise self._refuse(
                "request_id",
                f"is {_seen(text)}; pass 1 to {MAX_REQUEST_ID} printable ASCII characters without spaces",
            )
        return text

    def name(self, field: str, *, required: bool = True) -> str:
        text = self._required(field) if required else self.text(field)
        return _cut(" ".join(clean(text).split()), MAX_NAME)

    def _required(self, field: str) -> str:
        text = self.text(field)
        if not text:
            raise self._refuse(field, "is missing or empty; it is required")
        return text

    def time(self, field: str) -> datetime | None:
        value = self._data.get(field)
        if value is None or value == "":
            return None
        if isinstance(value, str):
            try:
                moment = isoparse(value.strip())
                value = moment if moment.tzinfo else self._localise(moment)
            except (ValueError, OverflowError) as error:
                raise self._refuse(
                    field, f"is {_seen(value)}; pass ISO 8601 text such as 2025-10-25T15:30:00+09:00"
                ) from error
        if not isinstance(value, datetime) or value.utcoffset() is None:
            raise self._refuse(field, f"is {_seen(value)}; pass an aware datetime or ISO 8601 text")
        if not 1 < value.year < 9999:
            raise self._refuse(field, f"is {_seen(value)}; pass a year between 2 and 9998")
        return value

    def addresses(self, field: str) -> tuple[str, ...]:
        value = self._data.get(field)
        if value is None:
            return ()
        if isinstance(value, (list, tuple, set, frozenset)) and all(isinstance(item, str) for item in value):
            value = ",".join(value)
        if not isinstance(value, str):
            raise self._refuse(field, f"is {_seen(value)}; pass addresses as a list or comma separated")
        addresses = split_addresses(value)
        for address in addresses:
            if not is_address(address):
                raise self._refuse(field, f"has {_seen(address)}, which is not an address like name@example.com")
        if len(addresses) > MAX_RECIPIENTS:
            raise self._refuse(field, f"has {len(addresses)} addresses; the most is {MAX_RECIPIENTS}")
        return tuple(addresses)

    def extra(self) -> dict[str, Any] | None:
        extra = {}
        for field, value in self._data.items():
            if field in self._OWN:
                continue
            try:
                extra[_key(field)] = _clean_json(value, depth=0)
            except ValueError as error:
                raise self._refuse(field, f"is not a JSON value: {error}") from error
        return extra or None


def clean(text: str) -> str:
    """Put U+FFFD where a character could hide, reorder or break what a person reads."""
    return _UNSAFE.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))


#: Bits. Python itself refuses to print integers of more than 4,300 digits.
_MAX_INT_BITS = 1024
#: Levels of lists and dicts within one extra field.
_MAX_DEPTH = 20


def _clean_json(value: Any, *, depth: int) -> Any:
    """Clean and cut every text in a JSON value; raises ValueError for what JSON cannot hold."""
    if isinstance(value, str):
        return _cut(clean(value), MAX_TEXT)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if value.bit_length() > _MAX_INT_BITS:
            raise ValueError("the number is too long")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} has no JSON form")
        return value
    if depth >= _MAX_DEPTH:
        raise ValueError(f"nested deeper than {_MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        return {_key(key): _clean_json(item, depth=depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean_json(item, depth=depth + 1) for item in value]
    raise ValueError(f"{_seen(value)} has no JSON form")


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise ValueError(f"the key {_seen(key)} is not text")
    return _cut(clean(key), MAX_NAME)


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    return f"{text[: limit - 30]}… ({len(text) - limit + 30:,} more)"


def _seen(value: Any) -> str:
    """A short, printable form of a wrong value for an error message."""
    if isinstance(value, str):
        return ascii(value[:60]) + ("…" if len(value) > 60 else "")
    shown = f" {value}" if isinstance(value, (bool, float, datetime)) else ""
    return f"a {type(value).__name__}{shown}"
