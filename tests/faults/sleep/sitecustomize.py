"""Loaded by each Python that has this folder in PYTHONPATH: a sleep that libfaketime leaves alone.

Python's own, from 3.11 on, is to a moment of the monotonic clock, which libfaketime takes for one of the wall clock.
"""

from __future__ import annotations

import select
import time


def sleep(seconds: float) -> None:
    select.select([], [], [], seconds)


time.sleep = sleep
