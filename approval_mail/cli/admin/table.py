"""Approval requests as a table that keeps its columns, whatever alphabet its texts are in."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from datetime import datetime, timezone

from approval_mail import services
from approval_mail.approvals.values import Approval, Status
from approval_mail.fields import plain

#: Characters of a request id that are shown at the least, as in mails.
_SHORT = 8
#: Columns of a terminal that the user, tool and responder keep even where it is narrow.
_LEAST = 6
#: Positions of the columns that may be cut to fit: user, tool, responder.
_CUTTABLE = (2, 3, 6)
_GAP = "  "


def table(
    approvals: Sequence[Approval],
    *,
    width: int | None = None,
    whole_ids: bool = False,
    now: datetime | None = None,
) -> str:
    """A line of headings and one line for each request.

    ``width`` is a terminal's, in columns; None: nothing is cut. Ids are cut to what tells these requests apart
    unless ``whole_ids``.
    """
    now = now or datetime.now(timezone.utc)
    zone = now.astimezone(services.settings().timezone).tzname()
    ids = [approval.request_id for approval in approvals]
    rows = [
        ("id", "status", "user", "tool", f"asked ({zone})", "left or ended", "responder"),
        *(
            (
                approval.request_id if whole_ids else _short(approval.request_id, ids),
                _state(approval),
                plain(approval.user_id),
                plain(approval.tool_name),
                _clock(approval.requested_at, now),
                _end(approval, now),
                plain(approval.responder_id),
            )
            for approval in approvals
        ),
    ]
    widths = [max(columns(row[place]) for row in rows) for place in range(len(rows[0]))]
    if width is not None:
        _narrow(widths, width)
    return "\n".join(
        _GAP.join(fit(cell, room) for cell, room in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def left(approval: Approval, now: datetime) -> str:
    """The time until the deadline, ``4:07`` or ``1:04:07``; ``0:00`` once it has passed."""
    seconds = max(0, int((approval.expires_at - now).total_seconds()))
    minutes, hours, days = seconds // 60 % 60, seconds // 3600 % 24, seconds // 86400
    if days:
        return f"{days} d {hours}:{minutes:02}:{seconds % 60:02}"
    return f"{hours}:{minutes:02}:{seconds % 60:02}" if hours else f"{minutes}:{seconds % 60:02}"


def columns(text: str) -> int:
    """Columns that a terminal gives to a text: two to each wide character, none to one that combines."""
    return sum(map(_columns, text))


def fit(text: str, room: int) -> str:
    """A text padded with blanks, or cut, to so many columns."""
    missing = room - columns(text)
    if missing >= 0:
        return text + " " * missing
    kept, used = "", 0
    for character in text:
        used += _columns(character)
        if used > room - 1:
            break
        kept += character
    return fit(kept + "…", room)


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def _short(request_id: str, others: Sequence[str]) -> str:
    """The beginning of an id, long enough to tell it from ``others``."""
    length = _SHORT
    while length < len(request_id) and sum(other.startswith(request_id[:length]) for other in others) > 1:
        length += 1
    return request_id[:length]


def _state(approval: Approval) -> str:
    """The status; of a request that nobody was told of in half of its time, that too."""
    untold = approval.untold and approval.status is Status.PENDING
    return f"{approval.status.value}, untold" if untold else approval.status.value


def _narrow(widths: list[int], width: int) -> None:
    """Take from the widest cuttable column until the table fits, or each has its least."""
    while sum(widths) + len(_GAP) * (len(widths) - 1) > width:
        widest = max(_CUTTABLE, key=lambda place: widths[place])
        if widths[widest] <= _LEAST:
            return
        widths[widest] -= 1


def _clock(moment: datetime, now: datetime) -> str:
    there, today = (each.astimezone(services.settings().timezone) for each in (moment, now))
    return f"{there:%m-%d %H:%M:%S}" if there.year == today.year else f"{there:%Y-%m-%d %H:%M}"


def _end(approval: Approval, now: datetime) -> str:
    if approval.status is Status.PENDING:
        return f"{left(approval, now)} left"
    return _clock(approval.ended_at or approval.expires_at, now)
