"""Looks at the pipeline, again and again, that never hold up whoever shows them: each kind has a thread of its own."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from approval_mail import services
from approval_mail.fields import plain
from approval_mail.overview import Around, look_around
from approval_mail.store import Counts, Failure, StoreError

#: Seconds. Upper bounds of the groups that due events are shown in, by how long they have been due.
AGES = (5, 30, 120, 600)
#: Failures that are looked at; a terminal shows fewer.
_FAILURES = 40
#: Seconds between two questions to workers, each of which all of them answer.
_AROUND_EVERY = 10.0
#: Seconds, while none answers: whoever starts one is waiting to see it.
_AROUND_SOON = 3.0


@dataclass(frozen=True, slots=True)
class Look:
    """What Redis answered."""

    at: datetime
    #: Seconds by time.monotonic(), when the look began.
    clock: float
    counts: Counts
    #: As `EventStore.counters`.
    counters: Mapping[tuple[str, ...], int]
    #: Due events by AGES, those above the last bound at the end.
    by_age: tuple[int, ...]
    #: Newest first.
    failures: tuple[Failure, ...]
    #: As `Notices.routes_faults`.
    routes_faults: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Lost:
    """Redis could not be asked."""

    at: datetime
    #: Seconds by time.monotonic(), when the look began.
    clock: float
    reason: str


News = Look | Lost | Around


def look() -> Look | Lost:
    """Ask Redis; takes up to its client's timeouts, some 10 s, where it does not answer."""
    at, clock = datetime.now(timezone.utc), time.monotonic()
    store = services.operator_store()
    try:
        return Look(
            at,
            clock,
            store.count(),
            store.counters(),
            tuple(store.pending_by_age(AGES)),
            tuple(store.history.failures(_FAILURES)),
            store.notices.routes_faults(),
        )
    except StoreError as error:
        return Lost(at, clock, plain(str(error)))


class Lookout:
    """Looks every ``interval`` seconds, and around itself more rarely, for as long as it is entered."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._found: queue.SimpleQueue[News | Exception] = queue.SimpleQueue()
        self._ended = threading.Event()

    def __enter__(self) -> Lookout:
        for kind, wait in ((look, self._soon), (look_around, self._later)):
            # Nobody waits for their ends: a Redis that hangs would hold up whoever leaves.
            threading.Thread(target=self._go_on, args=(kind, wait), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def news(self, *, wait: bool = False) -> News | None:
        """What was found next; None: nothing yet, unless it is to ``wait``. Raises what no look knows how to tell."""
        try:
            found = self._found.get(block=wait)
        except queue.Empty:
            return None
        if isinstance(found, Exception):
            raise found
        return found

    def _go_on(self, kind: Callable[[], News], wait: Callable[[News], float]) -> None:
        try:
            while not self._ended.is_set():
                began = time.monotonic()
                found = kind()
                self._found.put(found)
                self._ended.wait(max(began + wait(found) - time.monotonic(), 0))
        except Exception as error:  # Raised again by `news`, for whoever shows it to end with.
            self._found.put(error)

    def _soon(self, found: News) -> float:
        return self._interval

    @staticmethod
    def _later(found: News) -> float:
        return _AROUND_EVERY if isinstance(found, Around) and found.workers else _AROUND_SOON
