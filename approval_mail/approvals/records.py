"""Between what lies in Redis, events, and what callers see; and the checks of what callers pass. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone, tzinfo
from typing import Any

from approval_mail.approvals.rows import REQUEST_ID, Kept
from approval_mail.approvals.values import Approval, Status
from approval_mail.errors import InvalidEvent
from approval_mail.events import ApprovalEvent
from approval_mail.fields import Fields
from approval_mail.moments import word_moment
from approval_mail.store.arguments import milliseconds, moment
from approval_mail.timing import MAX_APPROVAL_TIMEOUT

#: The event that tells how a request ended; none tells that it was withdrawn.
_OUTCOMES = {
    Status.APPROVED: "approval_approved",
    Status.REJECTED: "approval_rejected",
    Status.EXPIRED: "approval_timeout",
}
_WHO = "approval"


def request_id(text: object) -> str:
    """``text`` if it can be a request's id; raises InvalidEvent."""
    if not isinstance(text, str) or not REQUEST_ID.fullmatch(text):
        shown = ascii(text)[:80]
        raise InvalidEvent(
            "request_id",
            f"{_WHO}: field 'request_id' is {shown}; pass 1 to 200 ASCII letters, digits, '.', '_', ':' and '-', "
            "beginning with a letter or digit",
            shown,
        )
    return text


def status(text: str) -> Status:
    """The status of that name; raises InvalidEvent."""
    try:
        return Status(text)
    except ValueError:
        raise InvalidEvent("status", f"{_WHO}: field 'status' is none of {', '.join(Status)}") from None


def seconds(field: str, value: object) -> float:
    """``value`` if it is a span that a request can wait; raises InvalidEvent."""
    try:
        sound = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        sound = False
    if not sound:
        raise InvalidEvent(field, f"{_WHO}: field '{field}' is a {type(value).__name__}; pass a number of seconds")
    assert isinstance(value, (int, float))  # noqa: S101 - as was looked
    if not 0.001 <= value <= MAX_APPROVAL_TIMEOUT:
        raise InvalidEvent(
            field,
            f"{_WHO}: field '{field}' makes it wait {value:.16g} s in all; "
            f"the most is {MAX_APPROVAL_TIMEOUT:,} s, the least 0.001 s",
        )
    return float(value)


def responder(value: object, *, required: bool = True) -> str:
    """Who decides, cleaned; raises InvalidEvent."""
    return Fields(_WHO, {"responder_id": value}, _never).name("responder_id", required=required)


def reason(value: object) -> str:
    """Why, cleaned; raises InvalidEvent."""
    return Fields(_WHO, {"reason": value}, _never).prose("reason")


def asked(data: Mapping[str, Any], *, asked: datetime, expires: datetime) -> ApprovalEvent:
    """The event that permission is asked; raises InvalidEvent."""
    fields = {**data, "requested_at": asked, "expires_at": expires}
    event = ApprovalEvent.from_dict("approval_requested", fields, now=asked, localise=_never)
    return replace(event, decidable=True)


def event(kept: Kept) -> ApprovalEvent:
    """The approval_requested event of a request, with its deadline as it is; raises InvalidRecord."""
    return replace(ApprovalEvent.from_json(kept.fields["record"]), expires_at=moment(kept.expires))


def outcome(kept: Kept, status: Status, responder_id: str, reason: str) -> ApprovalEvent | None:
    """The event that a request ended with ``status``; None if there is none of it."""
    name = _OUTCOMES.get(status)
    if name is None:
        return None
    return replace(
        event(kept), type=name, occurred_at=moment(kept.now), responder_id=responder_id, reason=reason, decidable=False
    )


def reminder(request: ApprovalEvent, fraction: str, *, now: datetime | None = None) -> ApprovalEvent:
    """The event that ``fraction`` of a pending request's window is over."""
    return replace(request, type="approval_reminder", fraction=fraction, occurred_at=now or request.occurred_at)


def fractions(kept: Kept) -> list[str]:
    """The fractions of the window at which a request is reminded of, rising."""
    return [part for part in kept.fields.get("fractions", "").split(",") if part]


def approval(kept: Kept) -> Approval:
    """What callers see of a request; raises InvalidRecord."""
    request = event(kept)
    extra = dict(request.extra or {})
    fields, status = kept.fields, kept.status
    told, ended = fields.get("told"), fields.get("ended")
    half = (kept.asked + kept.expires) // 2
    unheard = status is Status.PENDING and fields.get("mailed") == "1" and kept.now >= half
    return Approval(
        request_id=request.request_id,
        user_id=request.user_id,
        tool_name=request.tool_name,
        arguments=extra.pop("arguments", None),
        requested_at=moment(kept.asked),
        expires_at=moment(kept.expires),
        status=status,
        responder_id=fields.get("responder", ""),
        reason=fields.get("reason", ""),
        ended_at=moment(int(ended)) if ended else None,
        read_at=moment(kept.now),
        email_to=request.email_to,
        told_at=moment(int(told)) if told else None,
        untold=not told and (unheard or "untold" in fields),
        extra=extra or None,
    )


def cursor(last: Approval) -> str:
    """What asks for the requests after ``last``."""
    return f"{milliseconds(last.requested_at.timestamp())}.{last.request_id}"


def read_cursor(text: str) -> tuple[int, str]:
    """A cursor's parts; raises InvalidEvent if ``text`` is not a cursor."""
    asked, dot, name = text.partition(".")
    if not dot or not asked.isdecimal() or not asked.isascii() or not REQUEST_ID.fullmatch(name):
        raise InvalidEvent(
            "cursor", f"{_WHO}: field 'cursor' is not a cursor; pass that of the page before, or leave it out"
        )
    return int(asked), name


def ending(approval: Approval, zone: tzinfo | None) -> str:
    """One sentence, without its full stop, on how a request that is no longer pending ended."""
    what = f"request {approval.request_id} ({approval.tool_name} for {approval.user_id})"
    if approval.status is Status.EXPIRED:
        return f"{what} expired at {word_moment(approval.expires_at, zone)}"
    by = f" by {approval.responder_id}" if approval.responder_id else ""
    because = f": {approval.reason}" if approval.reason else ""
    return f"{what} was {approval.status}{by} at {word_moment(approval.ended_at or approval.expires_at, zone)}{because}"


def _never(moment: datetime) -> datetime:
    """Times of requests are Redis's own, which are aware."""
    return moment.replace(tzinfo=timezone.utc)
