"""Waiting for something that other processes do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(what: Callable[[], T], *, seconds: float = 120, saying: str = "") -> T:
    """Return the first true answer of ``what``; fails after so many seconds, showing the last answer."""
    deadline = time.monotonic() + seconds
    while True:
        answer = what()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{saying or what} did not happen within {seconds:g} s; last answer: {answer!r}")
        time.sleep(0.02)
