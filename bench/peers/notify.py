"""(g) This project, by its Celery task."""

from __future__ import annotations

import time
from typing import Any

from approval_mail.tasks import notify
from bench.events import request


def call(*, first: int, count: int) -> dict[str, Any]:
    """Send the task for so many requests in a row."""
    events = [request(number) for number in range(first, first + count)]
    cpu, began = time.process_time(), time.monotonic()
    for fields in events:
        notify.delay("approval_requested", fields)
    return {"began": began, "cpu": time.process_time() - cpu}
