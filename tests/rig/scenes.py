"""What the live page would have seen: some busy minutes, and a mail server that went away."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from approval_mail.cli.live.looks import Look
from approval_mail.cli.live.trend import Trend, View
from approval_mail.overview import Around
from approval_mail.store import Counts, Failure

ZONE = ZoneInfo("Asia/Seoul")
_START = datetime(2026, 10, 20, 14, 2, 58, tzinfo=ZONE)
#: Seconds.
_EVERY = 2
_LENGTH = 320
_HELD_AT = 262
_KINDS = ("requested", "approved", "rejected", "timeout")


def busy() -> View:
    """Some fifteen events a second, one wrong address, one server that asks for patience."""
    return _view(is_held=False)


def held() -> View:
    """The same, a minute after the mail server stopped answering."""
    return _view(is_held=True)


def _view(*, is_held: bool) -> View:
    trend = Trend(
        enabled=True, batch_timeout=5, interval=_EVERY, moment=lambda at: f"{at.astimezone(ZONE):%Y-%m-%d %H:%M:%S %Z}"
    )
    for look in _looks(is_held=is_held):
        trend.add(look)
    trend.add(Around(_START, 2, None, 0, Path("/var/lib/approval_mail/spool"), None))
    return trend.view(float(_LENGTH))


def _looks(*, is_held: bool) -> Iterator[Look]:
    recorded = accepted = 40_000.0
    for second in range(0, _LENGTH + 1, _EVERY):
        rate = 15 + 9 * math.sin(second / 37) + 4 * math.sin(second / 7)
        recorded += rate * _EVERY
        if not (is_held and second > _HELD_AT):
            accepted = recorded - 3
        yield _look(second, round(recorded), round(accepted), held=is_held and second > _HELD_AT)


def _look(second: int, recorded: int, accepted: int, *, held: bool) -> Look:
    waiting = recorded - accepted
    done = accepted - 40_000
    return Look(
        _START + timedelta(seconds=second),
        float(second),
        Counts(
            pending=0 if held else 2,
            deferred=waiting - 10 if held else 1,
            claimed=10 if held else 8,
            sent=accepted - 12_310,
            dead=2,
            suppressed=5,
            untold=3 if held else 0,
            oldest_pending_seconds=None if held else 0.4,
            beat_seconds_ago=1.2,
            held_since=_START + timedelta(seconds=_HELD_AT) if held else None,
            held_reason="mail.example.com:587: connect failed: Connection refused" if held else None,
            held_next_step="check SMTP_HOST and SMTP_PORT, and that the server is running" if held else None,
        ),
        {
            ("recorded", "approval_requested"): recorded,
            ("accepted", "approval_requested"): accepted,
            ("delivery", "0.1"): round(done * 0.62),
            ("delivery", "0.25"): round(done * 0.31),
            ("delivery", "0.5"): round(done * 0.04),
            ("delivery", "1"): round(done * 0.03),
            ("dead", "rcpt"): 2,
            ("suppressed", "moot: already approved"): 4,
            ("suppressed", "moot: expired"): 1,
        },
        (0, 0, 0, 0, 0) if held else (2, 0, 0, 0, 0),
        _FAILURES,
        {},
    )


def _failure(second: int, request: str, kind: int, recipient: str, result: str, reply: str) -> Failure:
    return Failure(
        at=_START + timedelta(seconds=second),
        event_id=f"{request}:approval_{_KINDS[kind]}",
        recipient=recipient,
        result=result,
        code=int(reply[:3]),
        phase="rcpt",
        reason=reply,
    )


#: Newest first.
_FAILURES = (
    _failure(241, "5e2c9f10-77", 0, "ops@partner.example", "failed", "451 4.7.1 greylisted, please try again in 2 min"),
    _failure(239, "5e2c9f10-77", 0, "ops@partner.example", "failed", "451 4.7.1 greylisted, please try again in 2 min"),
    _failure(88, "b81d04aa-12", 2, "lee@example.com", "failed", "452 4.2.2 mailbox full"),
    _failure(-1904, "07f3c6d2-90", 1, "kim@exmaple.com", "dead", "550 5.1.1 no such user here"),
    _failure(-5117, "c44b1e8f-31", 0, "kim@exmaple.com", "dead", "550 5.1.1 no such user here"),
)
