"""What must be flat in a soak, and how flat."""

from __future__ import annotations

from collections.abc import Iterator

from approval_mail import timing
from tests.soak.flatness import Bound
from tests.soak.keys import WORKING
from tests.soak.stage import HISTORY

#: Programs that are watched, with the table's names.
_PROCESSES = {
    "worker, main": "worker, main process",
    "worker, pool": "worker, pool process",
    "beat": "beat",
    "host": "host that calls hooks",
    "api": "`approval-mail api`",
    "metrics": "`approval-mail metrics`",
}
#: Seconds that a process of Python may take until it has met everything: each type, language, error and retry once, an
#: allocator that keeps what a burst needed, and a first search for all garbage. A worker's main process is not full
#: before: Celery keeps the timer of each `send_batch` for its soft limit, though the batch ended long ago.
_MET_EVERYTHING = timing.SOFT_TIME_LIMIT + 60
#: Seconds within which every pool of connections has as many as it ever needs.
_CONNECTED = 30
#: Seconds from the end of a lifetime until the last of that age has gone: retries end late, gathers clear up, and Redis
#: looks for expired keys in its own time.
_GOING = 90


def all_bounds() -> Iterator[Bound]:
    """Every figure that is judged, in the table's order."""
    for subject, title in _PROCESSES.items():
        yield Bound(subject, "uss", 0.03, 1.0, f"{title}: own memory (USS)", "MB", _MET_EVERYTHING)
        yield Bound(subject, "rss", 0.03, 1.5, f"{title}: memory (RSS)", "MB", _MET_EVERYTHING)
        yield Bound(subject, "fds", 0, 1, f"{title}: open files")
        yield Bound(subject, "threads", 0, 1, f"{title}: threads")
    filled = HISTORY + _GOING
    all_filled = max(HISTORY, WORKING) + _GOING
    yield Bound("Redis", "used memory", 0.05, 1.0, "Redis: used memory, once all is full", "MB", all_filled)
    yield Bound("Redis", "keys event", 0.05, 500, "Redis: events, once the history is full", "", filled)
    yield Bound("Redis", "keys trace", 0.05, 500, "Redis: traces, once the history is full", "", filled)
    yield Bound("Redis", "keys recurring", 0.05, 100, "Redis: sets of reminders, once the history is full", "", filled)
    yield Bound("Redis", "clients", 0, 3, "Redis: connections", "", _CONNECTED)
    yield Bound("Redis", "fds", 0, 3, "Redis: open files", "", _CONNECTED)
    yield Bound("mail server", "connections", 0, 1, "mail server: open connections")
    yield Bound("spool", "spooled", 0, 0, "spool: files")
