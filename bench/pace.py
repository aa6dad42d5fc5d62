"""Calls at a steady rate."""

from __future__ import annotations

import time
from collections.abc import Iterator


def ticks(rate: float, count: int) -> Iterator[int]:
    """Yield 0, 1, 2, ... at ``rate`` a second; after a late one the next come at once until the pace is kept again."""
    began = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        yield number
