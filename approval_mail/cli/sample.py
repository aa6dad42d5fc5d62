"""Events to try templates and the transport with."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from approval_mail.events import ApprovalEvent


def sample(type_name: str, *, tool_name: str = "git_commit") -> ApprovalEvent:
    """A plausible event of this type, as of now."""
    now = datetime.now(timezone.utc)
    data = {
        "request_id": "00000000-test-4000-8000-000000000000",
        "user_id": "agent-7",
        "tool_name": tool_name,
        "requested_at": now - timedelta(seconds=12),
        "expires_at": now + timedelta(minutes=5),
        "responder_id": "operator",
        "reason": "approval-mail test",
        "arguments": {"message": "approval-mail test"},
    }
    return ApprovalEvent.from_dict(type_name, data, now=now, localise=lambda naive: naive.astimezone())
