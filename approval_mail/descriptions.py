"""What Flower, ``celery inspect`` and logs show in place of a task's arguments. Pure.

Arguments can hold addresses, reasons and whatever a host puts into an event; a description holds the event's
type, the first eight characters of its request id, and the tool's name.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from approval_mail.events import EVENT_TYPES
from approval_mail.fields import clean

#: Characters. A column of Flower's is narrow, and a tool's name may be long.
_MAX_TOOL = 60


def describe(task: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Describe one call of a task of this package; empty if it is none, or not called as it should be."""
    try:
        return _DESCRIBE[task](*args, **kwargs)
    except (KeyError, TypeError, AttributeError):
        return ""


def of_event(event_type: str, request_id: str, tool_name: str) -> str:
    """``approval_requested abc12345 git_commit``."""
    return clean(f"{event_type} {request_id[:8]} {' '.join(tool_name.split())[:_MAX_TOOL]}").strip()


def of_events(first: str, count: int) -> str:
    """``count`` events, of which ``first`` describes one."""
    return first if count == 1 else f"{first} and {count - 1} more"


def _notify(event_type: str, data: Mapping[str, Any]) -> str:
    if event_type not in EVENT_TYPES:
        return ""
    return of_event(event_type, _name(data.get("request_id")), _name(data.get("tool_name")))


def _name(value: object) -> str:
    """A field that is a name as hooks take them; what else stands there may hold anything."""
    return str(value) if isinstance(value, (str, int, uuid.UUID)) else ""


def _gather(*, by_beat: bool = False, due: int = 0) -> str:
    return "by beat" if by_beat else "woken"


def _sweep_expired() -> str:
    return "by the clock"


def _conclude(outcomes: object, started: float = 0, batches: int = 0) -> str:
    return f"{batches} batch{'es' if batches != 1 else ''}"


_DESCRIBE: Mapping[str, Callable[..., str]] = {
    "approval_mail.notify": _notify,
    "approval_mail.gather": _gather,
    "approval_mail.conclude": _conclude,
    "approval_mail.sweep_expired": _sweep_expired,
}
