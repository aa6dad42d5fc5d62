"""This project's rendering, MIME and mailer alone: for peers that have its mail but not its queue."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from approval_mail import services
from approval_mail.events import ApprovalEvent
from approval_mail.mailer import Session


def send(session: Session, fields: dict[str, Any]) -> None:
    """Send the mail of an approval_requested; raises RuntimeError unless it is accepted."""
    now = datetime.now(timezone.utc)
    event = ApprovalEvent.from_dict("approval_requested", fields, now=now, localise=_localise)
    renderer = services.renderer()
    content = renderer.render(event, now)
    for recipient in event.email_to:
        reply = session.send(recipient, renderer.compose(event, content, recipient, now))
        if reply.code != 250:
            raise RuntimeError(f"not accepted: {reply}")


def _localise(naive: datetime) -> datetime:
    return naive.replace(tzinfo=timezone.utc)
