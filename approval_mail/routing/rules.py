"""One rule of the routes: which events it is for, and whom it names. Pure."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Union

from approval_mail.addresses import is_address, split_addresses
from approval_mail.events import ApprovalEvent
from approval_mail.fields import MAX_TEXT, shown

#: What a rule can ask of a further field: a text by a glob, a number or a boolean by its value.
Wanted = Union["re.Pattern[str]", bool, int, float]

#: Fields of every event that a placeholder may name; any other name is a further field's.
NAMED_FIELDS = ("user_id", "tool_name", "request_id", "responder_id")
#: The other fields of every event: none of them gives an address, and they are never among the further ones.
OTHER_FIELDS = frozenset(("type", "event_id", "requested_at", "expires_at", "occurred_at", "reason", "email_to"))

#: Of a glob, what one character is chosen from.
_CHOICE = re.compile(r"\[(?:!.|[^!])[^\]]*\]", re.DOTALL)

_PLACEHOLDER = re.compile(r"\{([\w-]+)\}")
#: What a field may put into an address: nothing that means more than itself in one.
_SAFE = re.compile(r"[A-Za-z0-9._+-]+")


def glob(pattern: str) -> re.Pattern[str]:
    """A glob as of `fnmatch.fnmatchcase`, compiled; raises ValueError, also for a bracket that is not closed."""
    if len(pattern) > MAX_TEXT:
        raise ValueError(f"is longer than any field; use at most {MAX_TEXT:,} characters")
    if "[" in _CHOICE.sub("", pattern):
        raise ValueError("has a [ without its ]; add it, or write [[] for the bracket itself")
    translated = fnmatch.translate(pattern)
    if "(?!)" in translated:  # What fnmatch makes of a choice of nothing.
        raise ValueError("has a range that runs backwards, and would match nothing; write it as in [a-z]")
    try:
        return re.compile(translated)
    except re.error as error:
        raise ValueError("is not a glob; use *, ?, [abc] and [!abc]") from error


@dataclass(frozen=True, slots=True)
class Entry:
    """One of those whom a rule names: an address, a field that holds some, or an address with fields in it."""

    #: As the file has it.
    text: str

    @classmethod
    def parse(cls, text: str) -> Entry:
        """Check an entry; raises ValueError with the rule that it breaks."""
        names = _PLACEHOLDER.findall(text)
        if set("{}") & set(_PLACEHOLDER.sub("", text)):
            raise ValueError("has braces that are no placeholder; use the name of a field alone, such as {user_id}")
        for name in names:
            if name in OTHER_FIELDS:
                usable = ", ".join(f"{{{field}}}" for field in NAMED_FIELDS)
                raise ValueError(f"names a field that gives no address; use {usable} or a further field of the event")
        if not _PLACEHOLDER.fullmatch(text) and not is_address(_PLACEHOLDER.sub("x", text)):
            raise ValueError("is not an address; use one like name@example.com, {user_id}@example.com or {approvers}")
        return cls(text)

    def addresses(self, event: ApprovalEvent) -> tuple[list[str], str]:
        """Whom it names for this event, and why it names nobody, or not all that the field holds; empty: it does."""
        whole = _PLACEHOLDER.fullmatch(self.text)
        return _all_of(whole[1], event) if whole else self._filled_in(event)

    def _filled_in(self, event: ApprovalEvent) -> tuple[list[str], str]:
        values: dict[str, str] = {}
        for name in _PLACEHOLDER.findall(self.text):
            value = _value(event, name)
            if value is None:
                return [], f"the event has no {name}"
            if not isinstance(value, str) or not _SAFE.fullmatch(value):
                return [], f"{name} is {shown(value)}, which cannot be part of an address"
            values[name] = value
        address = _PLACEHOLDER.sub(lambda found: values[found[1]], self.text)
        return ([address], "") if is_address(address) else ([], f"{shown(address)} is not an address")


def _all_of(name: str, event: ApprovalEvent) -> tuple[list[str], str]:
    """The addresses that a field holds, and what else it holds."""
    value = _value(event, name)
    if value is None:
        return [], f"the event has no {name}"
    good, bad = [], []
    for item in value if isinstance(value, (list, tuple)) else [value]:
        for part in split_addresses(item) if isinstance(item, str) else [item]:
            if isinstance(part, str) and is_address(part):
                good.append(part)
            else:
                bad.append(part)
    if bad:
        return good, f"{name} has {shown(bad[0])}, which is not an address"
    return good, "" if good else f"{name} is empty"


def _value(event: ApprovalEvent, name: str) -> Any:
    """A field's value; None if the event lacks it."""
    if name in NAMED_FIELDS:
        return getattr(event, name) or None
    return (event.extra or {}).get(name)


@dataclass(frozen=True, slots=True)
class Rule:
    """What one table of the file says, checked."""

    #: Unique, in one line; in logs, in reasons, in what `routes test` prints.
    name: str
    #: Keys of EVENT_TYPES; empty: any.
    types: frozenset[str] = frozenset()
    #: Globs, of which one must match; empty: any.
    tool_name: tuple[re.Pattern[str], ...] = ()
    user_id: tuple[re.Pattern[str], ...] = ()
    #: By the name of a further field, what it may be. The event must have each.
    extra: Mapping[str, Sequence[Wanted]] = field(default_factory=dict)
    #: Who gets the mails; None: the default route.
    to: tuple[Entry, ...] | None = None
    #: Who gets none about this event, whoever names them.
    leave_out: tuple[Entry, ...] = ()
    #: One of settings.LANGUAGES; empty: NOTIFICATION_LANGUAGE.
    language: str = ""
    #: Name of a time zone; empty: NOTIFICATION_TIMEZONE.
    timezone: str = ""
    #: Later rules count as well.
    go_on: bool = False
    #: Nobody gets a mail.
    off: bool = False

    @property
    def names_nobody(self) -> bool:
        """Whether it only leaves out, and lets others name: without ``to`` it would else send to the default route."""
        return self.to is None and self.go_on

    def matches(self, event: ApprovalEvent) -> bool:
        extra = event.extra or {}
        return (
            (not self.types or event.type in self.types)
            and (not self.tool_name or _any(self.tool_name, event.tool_name))
            and (not self.user_id or _any(self.user_id, event.user_id))
            and all(name in extra and _any(wanted, extra[name]) for name, wanted in self.extra.items())
        )


def _any(wanted: Iterable[Wanted], value: Any) -> bool:
    """Whether a value, or an item of it, is one of those wanted."""
    items = value if isinstance(value, (list, tuple)) else [value]
    return any(_is(one, item) for one in wanted for item in items)


def _is(wanted: Wanted, value: Any) -> bool:
    if isinstance(wanted, re.Pattern):
        return isinstance(value, str) and wanted.match(value) is not None
    if isinstance(wanted, bool) or isinstance(value, bool):
        return wanted is value  # To Python, True is 1.
    return isinstance(value, (int, float)) and value == wanted
