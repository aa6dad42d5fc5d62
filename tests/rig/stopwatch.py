"""How long a call took, without the time in which a busy machine let nothing of this process run."""

from __future__ import annotations

import threading
import time
from functools import cache

#: Seconds between two looks at the clock, and how much later than asked for a look is still no sign of a busy machine.
_TICK, _USUAL = 0.005, 0.01
#: Seconds. What took less was not held up by much.
_LONG = 0.05


class Stopwatch:
    """Times a block; a thread that only sleeps meanwhile tells how long the machine was not to be had.

    A promise that is bounded by the clock can then be held to its bound while other tests keep every core busy.
    """

    def __init__(self) -> None:
        #: What the block took, once it has ended.
        self.seconds = 0.0
        self._sleeper = _sleeper()

    def __enter__(self) -> Stopwatch:
        self._withheld = self._sleeper.withheld
        self._started = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        elapsed = time.perf_counter() - self._started
        if elapsed > _LONG:
            self._sleeper.look_once_more()
        self.seconds = elapsed - (self._sleeper.withheld - self._withheld)


class _Sleeper(threading.Thread):
    """Sleeps as long as the process lives, and counts for how much longer than asked."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.withheld = 0.0
        self._looks = 0

    def run(self) -> None:
        before = time.perf_counter()
        while True:
            time.sleep(_TICK)
            now = time.perf_counter()
            late = now - before - _TICK
            if late > _USUAL:
                self.withheld += late
            self._looks += 1
            before = now

    def look_once_more(self) -> None:
        """Wait until it has counted what it slept up to now."""
        looks = self._looks
        while self._looks == looks:
            time.sleep(_TICK / 2)


@cache
def _sleeper() -> _Sleeper:
    sleeper = _Sleeper()
    sleeper.start()
    return sleeper
