"""A host's data, read field by field: cleaned, cut, or refused with the field's name. Pure."""

from __future__ import annotations

import contextlib
import math
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from dateutil.parser import isoparse

from approval_mail.addresses import is_address, split_addresses
from approval_mail.errors import InvalidEvent

#: Characters. Longest request_id; it is part of Redis keys and of every log line.
MAX_REQUEST_ID = 200
#: Characters. Longest user_id, tool_name and responder_id; they go into subjects and are cut here.
MAX_NAME = 200
#: Characters. Longest text kept of a reason and of each text within the extra fields.
MAX_TEXT = 4_000
#: Addresses in ``email_to``.
MAX_RECIPIENTS = 50
#: Levels of lists and dicts within one extra field.
MAX_DEPTH = 20
#: Bits of an integer within an extra field. Python itself refuses to print those of more than 4,300 digits.
MAX_INT_BITS = 1024
#: Bytes of JSON. All fields of an event together, after cutting.
MAX_EVENT = 64 * 1024

#: Characters of a name that are looked at at all.
_MAX_LOOK = 10_000
#: What nearly all who pass a text for a time pass.
_USUAL_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{3}(\d{3})?)?)?(Z|[+-]\d\d:\d\d)?", re.ASCII)
_REQUEST_ID = re.compile(r"[\x21-\x7e]+")
#: C0 and C1 controls but tab and line feed, bidirectional and shaping controls (they reorder what is read),
#: what is not seen (a name could look like another's, or empty; but the joiners of scripts and emoji stay), byte order
#: mark, line separators, lone surrogates, annotation marks and tags (they can hide whole sentences).
_UNSAFE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164"
    r"\ud800-\udfff\ufeff\uffa0\ufff9-\ufffb"
    r"\U000e0000-\U000e0fff]"
)


#: Of two keys or fields. Whoever decides would see one of them.
_SAME = "read the same once they are cut, or what hides or reorders text is replaced; name them apart"


class Fields:
    """Reads one mapping field by field; each method raises InvalidEvent naming the field."""

    _OWN = frozenset(
        ("request_id", "user_id", "tool_name", "requested_at", "expires_at", "responder_id", "reason", "email_to")
    )

    def __init__(self, subject: str, data: Mapping[str, Any], localise: Callable[[datetime], datetime]) -> None:
        if not isinstance(data, Mapping):
            seen = shown(data)
            raise InvalidEvent(
                "data", f"{subject}: the data is {seen}; pass a dict with request_id, user_id, tool_name", seen
            )
        self._type = subject
        self._data = data
        self._localise = localise

    def _refuse(self, field: str, fault: str, *values: Any) -> InvalidEvent:
        """``fault`` has a pair of braces where a value is to be shown."""
        seen = [shown(value) for value in values]
        return InvalidEvent(field, f"{self._type}: field '{field}' {fault.format(*seen)}", *seen)

    def text(self, field: str) -> str:
        value = self._data.get(field)
        if value is None:
            return ""
        if isinstance(value, bool) or not isinstance(value, (str, int, uuid.UUID)):
            raise self._refuse(field, "is {}; pass text", value)
        if isinstance(value, int) and value.bit_length() > MAX_INT_BITS:
            raise self._refuse(field, "is a number that is too long; pass text")
        # Of an Enum that is text as well, the text, as in further fields.
        return (str.__str__(value) if isinstance(value, str) else str(value)).strip()

    def request_id(self) -> str:
        text = self._required("request_id")
        if len(text) > MAX_REQUEST_ID or not _REQUEST_ID.fullmatch(text):
            raise self._refuse(
                "request_id",
                f"is {{}}; pass 1 to {MAX_REQUEST_ID} printable ASCII characters without spaces",
                text,
            )
        return text

    def prose(self, field: str) -> str:
        """Free text of several lines, empty if it is not given."""
        return clean(_cut(self.text(field), MAX_TEXT))

    def name(self, field: str, *, required: bool = True) -> str:
        text = self._required(field) if required else self.text(field)
        return _cut(plain(text[:_MAX_LOOK]), MAX_NAME)

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
                moment = _moment(value.strip())
                value = moment if moment.tzinfo else self._localise(moment)
            except (ValueError, OverflowError) as error:
                raise self._refuse(
                    field, "is {}; pass ISO 8601 text such as 2025-10-25T15:30:00+09:00", value
                ) from error
        if not isinstance(value, datetime) or not _is_aware(value):
            raise self._refuse(field, "is {}; pass an aware datetime or ISO 8601 text", value)
        if not 1 < value.year < 9999:
            raise self._refuse(field, "is {}; pass a year between 2 and 9998", value)
        return value

    def fraction(self, field: str) -> str:
        value = self._data.get(field)
        try:
            return fraction(value)
        except (ValueError, OverflowError) as error:
            raise self._refuse(field, "is {}; pass a fraction between 0 and 1 such as 0.5", value) from error

    def addresses(self, field: str) -> tuple[str, ...]:
        value = self._data.get(field)
        if value is None:
            return ()
        if isinstance(value, (list, tuple, set, frozenset)) and all(isinstance(item, str) for item in value):
            value = ",".join(value)
        if not isinstance(value, str):
            raise self._refuse(field, "is {}; pass addresses as a list or comma separated", value)
        addresses = split_addresses(value)
        if len(addresses) > MAX_RECIPIENTS:
            raise self._refuse(field, f"has {len(addresses):,} addresses; the most is {MAX_RECIPIENTS}")
        for address in addresses:
            if not is_address(address):
                raise self._refuse(field, "has {}, which is not an address like name@example.com", address)
        return tuple(addresses)

    def others(self, *known: str) -> dict[str, Any] | None:
        """Everything but the fields that every type has and those ``known`` besides."""
        extra = {}
        for field, value in self._data.items():
            if field in self._OWN or field in known:
                continue
            try:
                name = _key(field)
                if name in extra:
                    raise ValueError(f"it and another one {_SAME}")
                extra[name] = _Json().clean(value)
            except ValueError as error:
                name = " ".join(_key(field).split()) if isinstance(field, str) else shown(field)
                raise InvalidEvent(name, f"{self._type}: field '{name}' cannot be kept: {error}") from error
        return extra or None


def fraction(value: Any) -> str:
    """A fraction between 0 and 1 in its shortest form, ``0.5``; raises ValueError or OverflowError."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"{shown(value)} is not a fraction")
    number = round(float(value), 4)
    if not 0 < number < 1:
        raise ValueError(f"{number} is not between 0 and 1")
    return f"{number:.4f}".rstrip("0")


def clean(text: str) -> str:
    """Put U+FFFD where a character could hide, reorder or break what a person reads."""
    if type(text) is str and text.isascii() and text.isprintable():
        return text  # As nearly all are; the look below takes ten times as long.
    return _UNSAFE.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))


def plain(text: str) -> str:
    """Text in one line that neither commands a terminal nor reorders what is read."""
    return " ".join(clean(text).split())


class _Json:
    """Cleans and cuts every text in one JSON value; raises ValueError for what JSON, or an event, cannot hold."""

    def __init__(self) -> None:
        #: Characters and items that an event could still hold: what is larger is not walked through to its end.
        self._left = MAX_EVENT

    def clean(self, value: Any, *, depth: int = 0) -> Any:
        if isinstance(value, str):
            text = _cut(value, MAX_TEXT)
            self._spend(len(text))
            return clean(text)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            if value.bit_length() > MAX_INT_BITS:
                raise ValueError("the number is too long")
            return value
        if isinstance(value, float):
            if not math.isfinite(value):
                raise ValueError(f"{value} has no JSON form")
            return value
        if not isinstance(value, (Mapping, list, tuple)):
            raise ValueError(f"{shown(value)} has no JSON form")
        if depth >= MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        self._spend(len(value))
        if isinstance(value, Mapping):
            cleaned = {self._key(key): self.clean(item, depth=depth + 1) for key, item in value.items()}
            if len(cleaned) < len(value):
                raise ValueError(f"two of its keys {_SAME}")
            return cleaned
        return [self.clean(item, depth=depth + 1) for item in value]

    def _key(self, key: Any) -> str:
        text = _key(key)
        self._spend(len(text))
        return text

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ValueError(f"it is larger than an event; the most is {MAX_EVENT:,} bytes of JSON: pass an excerpt")


def _moment(text: str) -> datetime:
    """ISO 8601 text as a time; raises ValueError or OverflowError."""
    if _USUAL_TIME.fullmatch(text):
        with contextlib.suppress(ValueError):  # Before Python 3.11 it does not know Z, never 24:00.
            return datetime.fromisoformat(text)
    return isoparse(text)  # All of ISO 8601, alike on every Python, at ten times the price.


def _is_aware(moment: datetime) -> bool:
    try:
        return moment.utcoffset() is not None
    except Exception:  # A zone of the host's own making may raise anything.
        return False


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise ValueError(f"the key {shown(key)} is not text")
    return clean(_cut(key, MAX_NAME))


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    return f"{text[: limit - 30]}… ({len(text) - limit + 30:,} more)"


def shown(value: Any) -> str:
    """A short, printable form of a wrong value for an error message."""
    if isinstance(value, str):
        return repr(str(value[:60])) + ("…" if len(value) > 60 else "")
    if isinstance(value, datetime):
        value = value.replace(tzinfo=None)  # Its zone may be of the host's own making, and raise anything.
    more = f" {value}" if isinstance(value, (bool, float, datetime)) else ""
    return f"a {type(value).__name__}{more}"
