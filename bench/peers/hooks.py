"""(f) This project, by hooks."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from approval_mail import hooks
from bench.events import request


def call(*, first: int, count: int) -> dict[str, Any]:
    """Call the hook for so many requests in a row; answers its receipts as well."""
    events = [request(number) for number in range(first, first + count)]
    cpu, began = time.process_time(), time.monotonic()
    receipts = Counter(hooks.approval_requested(**fields).value for fields in events)
    return {"began": began, "cpu": time.process_time() - cpu, "receipts": receipts}
