"""(a) The project's rendering and MIME in a loop: one kept connection, one process, no queue."""

from __future__ import annotations

import time
from typing import Any

from approval_mail import services
from bench.events import request
from bench.project_mail import send


def run(*, first: int, count: int, warm: int) -> dict[str, Any]:
    """Send so many mails after ``warm`` others that are not counted."""
    events = [request(number) for number in range(first, first + count + warm)]
    with services.mailer().session() as session:
        for fields in events[:warm]:
            send(session, fields)
        cpu, began = time.process_time(), time.monotonic()
        for fields in events[warm:]:
            send(session, fields)
        return {"began": began, "cpu": time.process_time() - cpu}
