"""Redis memory per pending event, and whether a worker grows with what it has sent."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil

from bench.program import Program
from bench.ratios import Row, Spread, at_most
from bench.world import World

#: Bytes of JSON that the application passes.
_PAYLOAD = 1024
#: Calls a second, more than are ever made: the hook is called in a row.
_IN_A_ROW = 1_000_000
#: Seconds after the last mail, in which a worker puts on record what it did.
_SETTLING = 3
_MEGABYTE = 1024 * 1024


def rows(repeat: int, quick: bool, tell: Callable[[str], None]) -> list[Row]:
    """Both are counted, not timed: they are measured once, whatever ``repeat`` says."""
    del repeat
    tell("pending events")
    per_event, pending = _redis(2_000 if quick else 20_000)
    few, many = (500, 2_000) if quick else (1_000, 50_000)
    tell(f"a worker that sends {many:,} mails")
    after_few, after_many = _worker(few, many)
    return [
        at_most(
            "Redis memory per pending event with a 1 KB payload",
            2.5,
            Spread.of([per_event / 1024]),
            f"{per_event:,.0f} bytes, over {pending:,} events",
            unit="KB",
        ),
        at_most(
            f"worker memory after {many:,} mails against after {few:,}",
            1.1,
            Spread.of([sum(after_many) / sum(after_few)]),
            f"{_shown(after_many)} against {_shown(after_few)}",
            note="main process + its two pool processes; pages that several share counted once",
        ),
    ]


def _redis(count: int) -> tuple[float, int]:
    """Bytes per event, and over how many."""
    with World() as world:
        before = world.redis.info("memory")["used_memory"]
        world.application("bench.stored:record", kind="approval_requested", first=0, count=count, payload=_PAYLOAD)
        time.sleep(1)
        return (world.redis.info("memory")["used_memory"] - before) / count, count


def _worker(few: int, many: int) -> tuple[list[float], list[float]]:
    """What `_memory` answers after the first mails, and after all."""
    with World() as world:
        worker = world.worker(concurrency=2)
        sent, found = 0, []
        for count in (few, many):
            world.application(
                "bench.paced_hooks:calls", kind="approval_approved", first=sent, count=count - sent, rate=_IN_A_ROW
            )
            sent = count
            world.sink.wait_for(sent, within=60 + sent / 50)
            time.sleep(_SETTLING)
            found.append(_memory(worker))
    return found[0], found[1]


def _memory(worker: Program) -> list[float]:
    """Megabytes of a worker's main process and of its pool; what several share is divided among them."""
    main, *pool = (
        process.memory_full_info().pss / _MEGABYTE for process in (psutil.Process(worker.process.pid), *worker.pool())
    )
    return [main, sum(pool)]


def _shown(megabytes: list[float]) -> str:
    return " + ".join(f"{part:.0f}" for part in megabytes) + " MB"
