"""How long a call took, without the time in which a busy machine let nothing of this process run."""

from __future__ import annotations

import threading
import time

#: Seconds between two looks at the clock, and how much later than asked for a look is still no sign of a busy machine.
_TICK, _USUAL = 0.005, 0.01


class Stopwatch:
    """Times a block; a thread that only sleeps meanwhile tells how long the machine was not to be had.

    A promise that is bounded by the clock can then be held to its bound while other tests keep every core busy.
    """

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._withheld = 0.0
        self._sleeper = threading.Thread(target=self._sleep, daemon=True)
        #: What the block took, once it has ended.
        self.seconds = 0.0

    def __enter__(self) -> Stopwatch:
        self._sleeper.start()
        self._started = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        elapsed = time.perf_counter() - self._started
        self._stop.set()
        self._sleeper.join()
        self.seconds = elapsed - self._withheld

    def _sleep(self) -> None:
        before = time.perf_counter()
        while not self._stop.is_set():
            time.sleep(_TICK)
            now = time.perf_counter()
            late = now - before - _TICK
            if late > _USUAL:
                self._withheld += late
            before = now
