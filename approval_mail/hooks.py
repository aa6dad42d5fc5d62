"""The face to hosts: tell these when something happens to an approval request.

A hook costs one Redis write, and for the call that wakes gather one Celery publish. It returns
within 0.5 s whatever Redis does, can be called from threads, forked web workers and a running event
loop, and raises only InvalidEvent, for a missing or malformed field. A name look-up that hangs is
not bounded: give Redis by address where the resolver is not trusted.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from approval_mail import celery, services
from approval_mail.errors import InvalidEvent
from approval_mail.recording import Receipt
from approval_mail.settings import Settings

__all__ = [
    "InvalidEvent",
    "Receipt",
    "approval_approved",
    "approval_rejected",
    "approval_requested",
    "approval_timeout",
    "configure",
    "emit",
]


def configure(settings: Settings) -> None:
    """Use these settings in place of the environment's and ``.env``'s; call it before the first hook."""
    services.configure(settings)
    celery.reconfigure()


def emit(event_type: str, data: Mapping[str, Any]) -> Receipt:
    """Record an event of the type of this name; `approval_requested` and its siblings say what ``data`` holds.

    Answers ``accepted`` (it is in Redis), ``duplicate`` (it was recorded before), ``spooled`` (it is
    on this host's disk and enters Redis by itself), ``disabled`` (NOTIFICATION_ENABLED is off) or
    ``refused`` (neither Redis nor the disk could take it). Raises InvalidEvent naming the field.
    """
    return services.recorder(celery.wake_gather).emit(event_type, data)


def approval_requested(
    *,
    request_id: str = "",
    user_id: str = "",
    tool_name: str = "",
    requested_at: datetime | str | None = None,
    expires_at: datetime | str | None = None,
    **extra: Any,
) -> Receipt:
    """Permission is asked: the mail goes out within NOTIFICATION_URGENT_TIMEOUT.

    ``request_id``, ``user_id`` and ``tool_name`` are required; times are aware datetimes or ISO 8601
    text; ``extra`` are further JSON values for templates, of which ``arguments`` is shown and
    ``email_to`` (at most 50 addresses) replaces EMAIL_TO. Answers and raises as `emit` does.
    """
    return emit(
        "approval_requested",
        {
            **extra,
            "request_id": request_id,
            "user_id": user_id,
            "tool_name": tool_name,
            "requested_at": requested_at,
            "expires_at": expires_at,
        },
    )


def approval_timeout(
    *,
    request_id: str = "",
    user_id: str = "",
    tool_name: str = "",
    requested_at: datetime | str | None = None,
    **extra: Any,
) -> Receipt:
    """The request ran out undecided. Parameters, answers and errors as for `approval_requested`."""
    return emit(
        "approval_timeout",
        {
            **extra,
            "request_id": request_id,
            "user_id": user_id,
            "tool_name": tool_name,
            "requested_at": requested_at,
        },
    )


def approval_approved(
    *,
    request_id: str = "",
    user_id: str = "",
    tool_name: str = "",
    responder_id: str = "",
    reason: str = "",
    **extra: Any,
) -> Receipt:
    """Permission was given by ``responder_id``. Other parameters, answers and errors as for `approval_requested`."""
    return emit(
        "approval_approved",
        {
            **extra,
            "request_id": request_id,
            "user_id": user_id,
            "tool_name": tool_name,
            "responder_id": responder_id,
            "reason": reason,
        },
    )


def approval_rejected(
    *,
    request_id: str = "",
    user_id: str = "",
    tool_name: str = "",
    responder_id: str = "",
    reason: str = "",
    **extra: Any,
) -> Receipt:
    """Permission was refused by ``responder_id``. Other parameters, answers and errors as for `approval_requested`."""
    return emit(
        "approval_rejected",
        {
            **extra,
            "request_id": request_id,
            "user_id": user_id,
            "tool_name": tool_name,
            "responder_id": responder_id,
            "reason": reason,
        },
    )
