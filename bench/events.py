"""The events that are sent: the same for every peer."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

#: Far enough ahead that no request expires while it is measured.
_WINDOW = timedelta(hours=6)


def request(number: int, payload: int = 0) -> dict[str, Any]:
    """The fields of the approval_requested with this number, of about ``payload`` bytes of JSON if that is more.

    Its recipient's local part is the request id, by which the sink tells it.
    """
    request_id = f"{number:08d}"
    now = datetime.now(timezone.utc)
    fields = {
        "request_id": request_id,
        "user_id": "alice",
        "tool_name": "git_commit",
        "requested_at": now.isoformat(),
        "expires_at": (now + _WINDOW).isoformat(),
        "arguments": {"repository": "billing", "branch": "main", "message": f"Fix rounding of invoice {number}"},
        "email_to": f"{request_id}@bench.example",
    }
    missing = payload - len(json.dumps(fields))
    if missing > 0:
        fields["arguments"] |= {"diff": "+" * max(0, missing - len(', "diff": ""'))}  # type: ignore[operator]
    return fields
