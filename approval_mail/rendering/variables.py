"""What a template can name of one event. Pure."""

from __future__ import annotations

from datetime import datetime, tzinfo
from typing import Any

from jinja2 import Template

from approval_mail.events import ApprovalEvent
from approval_mail.moments import word_moment
from approval_mail.rendering.wording import word_arguments, word_span


def variables(
    event: ApprovalEvent,
    now: datetime,
    *,
    timezone: tzinfo | None,
    durations: Template,
    approve_url: str = "",
    reject_url: str = "",
) -> dict[str, Any]:
    """Everything that a template can name of ``event`` as of ``now``; ours win over extra fields of the same name.

    Times are in ``timezone`` (None: the system's), spans in the words of ``durations``, a duration.txt. The links are
    one recipient's own, if there are any.
    """
    extra = event.extra or {}
    arguments_text, arguments_more = word_arguments(extra.get("arguments"))
    asked, expires = event.requested_at, event.expires_at
    values = {
        "approve_url": "",
        "reject_url": "",
        **extra,
        "event_id": event.event_id,
        "event_type": event.type,
        "request_id": event.request_id,
        "user_id": event.user_id,
        "tool_name": event.tool_name,
        "responder_id": event.responder_id,
        "reason": event.reason,
        "fraction": event.fraction,
        "decidable": event.decidable,
        "arguments": extra.get("arguments"),
        "arguments_text": arguments_text,
        "arguments_more": arguments_more,
        "requested_at": word_moment(asked, timezone),
        "expires_at": word_moment(expires, timezone),
        "occurred_at": word_moment(event.occurred_at, timezone),
        "timestamp": word_moment(now, timezone),
        "expired": expires is not None and expires <= now,
        "time_left": word_span(expires - now, durations) if expires else "",
        "elapsed": word_span(event.occurred_at - asked, durations) if asked else "",
    }
    if event.decidable:  # No field that a caller passes may stand where our links do.
        values |= {"approve_url": approve_url, "reject_url": reject_url}
    return values
