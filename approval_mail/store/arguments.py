"""Between Python's values and what scripts read and answer."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from approval_mail.events import ApprovalEvent
from approval_mail.store.values import WakeUp

#: Milliseconds. A wake-up that was asked for and did not come is asked for anew after this.
WAKE_LIFETIME = 5_000
#: How many arguments prelude.lua's ``record_event`` reads, as it says itself.
RECORD_ARGS = 15


def record_args(
    event: ApprovalEvent,
    *,
    nonce: str,
    batch_size: int,
    batch_timeout: float,
    urgent_timeout: float,
    waited: float | None = None,
) -> list[str | int]:
    """What prelude.lua's ``record_event`` reads; the parameters are those of `EventStore.record`."""
    return [
        event.event_id,
        event.to_json(),
        event.type,
        event.request_id,
        nonce,
        milliseconds(event.expires_at.timestamp()) if event.expires_at else "",
        ",".join(event.email_to),
        "" if waited is None else milliseconds(waited),
        flag(event.kind.urgent),
        flag(event.kind.recurs),
        flag(event.decidable),
        batch_size,
        milliseconds(batch_timeout),
        milliseconds(urgent_timeout),
        WAKE_LIFETIME,
    ]


def call_name() -> str:
    """A name for one call of a script, by which it is known when the client sends it once more."""
    return secrets.token_hex(4)


def time_of(client: Any) -> int:
    """Milliseconds of the store's own clock, as scripts count time."""
    return clock_milliseconds(client.time())


def clock_milliseconds(reply: Sequence[int | str]) -> int:
    """What the command TIME answers, seconds and microseconds, as scripts count time."""
    seconds, microseconds = reply
    return int(seconds) * 1000 + int(microseconds) // 1000


def moment(milliseconds: int) -> datetime:
    """A time of the store's clock as an aware datetime."""
    return datetime.fromtimestamp(milliseconds / 1000, timezone.utc)


def milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def flag(value: bool) -> str:
    return "1" if value else ""


def seconds_or_none(milliseconds: int) -> float | None:
    """What a script answers of an age; a negative one means that there is none."""
    return milliseconds / 1000 if milliseconds >= 0 else None


def wake_up(milliseconds: int, due: int) -> WakeUp | None:
    """What a script answers of the wake-up that it asks for; None if it asks for none."""
    return WakeUp(milliseconds / 1000, due) if milliseconds >= 0 else None
