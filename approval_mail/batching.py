"""How due events are cut into batches and tasks. Pure."""

from __future__ import annotations

from dataclasses import dataclass

#: Events. Most that are claimed at a time by all workers together; the rest stay pending, so that
#: no lease runs out in Celery's queue. Whoever finishes a batch wakes gather for the next.
MAX_CLAIMED = 1_000
#: Tasks. A backlog is spread over at least this many, so that every worker slot gets some.
_TASKS_WANTED = 8
#: Batches. Most that one task carries: several in one task save Celery's cost per task.
_MAX_BATCHES_PER_TASK = 10


@dataclass(frozen=True, slots=True)
class Plan:
    """How much one gather claims."""

    #: Tasks to dispatch at the most.
    tasks: int
    #: Events that each task carries at the most.
    events_per_task: int


def plan(*, due: int, claimed: int, batch_size: int) -> Plan:
    """Decide how ``due`` events become tasks while ``claimed`` others are under way."""
    room = min(due, max(MAX_CLAIMED, batch_size) - claimed)
    if room <= 0:
        return Plan(tasks=0, events_per_task=batch_size)
    batches = -(-room // batch_size)
    per_task = max(1, min(batches // _TASKS_WANTED, _MAX_BATCHES_PER_TASK))
    return Plan(tasks=-(-batches // per_task), events_per_task=per_task * batch_size)


def count(events: int, batch_size: int) -> int:
    """How many batches ``events`` gathered together make."""
    return -(-events // batch_size)
