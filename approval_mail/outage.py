"""Trouble with a server, told once and not met again by each call: a circuit breaker."""

from __future__ import annotations

import contextlib
import threading
import time


class Outage:
    """Lasts from a first failure until the server works again. Threads may share it, forks may come at any time."""

    def __init__(self, pause: float) -> None:
        """``pause`` is how many seconds after a failure the server is best left alone."""
        self._pause = pause
        #: By time.monotonic().
        self._paused_until = 0.0
        #: Held while it lasts. Nobody ever waits for it: to take it is a test and a set in one step.
        self._lasts = threading.Lock()

    def turns_away(self) -> bool:
        """Whether a call is best not made: during the pause, and while another call finds out if it still lasts."""
        now = time.monotonic()
        if now < self._paused_until:
            return True
        if self._lasts.locked():  # Two threads may come by here at once: then both find out.
            self._paused_until = now + self._pause
        return False

    def note_failure(self) -> bool:
        """Note a failure; answers whether it is the first, and so news."""
        self._paused_until = time.monotonic() + self._pause
        return self._lasts.acquire(blocking=False)

    def note_success(self) -> bool:
        """Note that the server works; answers whether that is news."""
        if not self._lasts.locked():
            return False
        self._paused_until = 0.0
        with contextlib.suppress(RuntimeError):  # Another thread noted it first.
            self._lasts.release()
            return True
        return False
