"""How due events are cut into batches and tasks. Pure."""

from __future__ import annotations

from dataclasses import dataclass

#: Events. Most that are claimed at a time by all workers together, beyond ALWAYS_CLAIMED batches.
MAX_CLAIMED = 1_000
#: Batches that are claimed at a time however slow the mail server is.
ALWAYS_CLAIMED = 10
#: What was finished lately (timing.LATELY), times this, can be sent before a lease runs out.
_AHEAD = 2
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


def plan(*, due: int, claimed: int, lately: int, batch_size: int, urgent: bool = False) -> Plan:
    """Decide how ``due`` events become tasks while ``claimed`` others are under way.

    ``lately`` events were finished in the last seconds: no more is claimed than can be sent before
    its lease would run out in Celery's queue. The rest stays pending; who finishes asks for more.
    ``urgent`` ones find half as much room again, which a backlog leaves free.
    """
    room = _most(lately, batch_size, urgent=urgent) - claimed
    if due <= 0 or claimed > room_from(due=due, lately=lately, batch_size=batch_size, urgent=urgent):
        return Plan(tasks=0, events_per_task=batch_size)
    batches = count(min(due, room), batch_size)
    per_task = max(1, min(batches // _TASKS_WANTED, _MAX_BATCHES_PER_TASK))
    return Plan(tasks=count(batches, per_task), events_per_task=per_task * batch_size)


def room_from(*, due: int, lately: int, batch_size: int, urgent: bool = False) -> int:
    """How many events may be claimed at the most for a gather to claim any of ``due`` others; the rest as in `plan`.

    It is refilled by halves: a handful of events each time would cost a chord each time.
    """
    return _most(lately, batch_size, urgent=urgent) - min(due, _most(lately, batch_size) // 2)


def _most(lately: int, batch_size: int, *, urgent: bool = False) -> int:
    most = max(ALWAYS_CLAIMED * batch_size, min(_AHEAD * lately, MAX_CLAIMED))
    return most + (most // 2 if urgent else 0)


def count(items: int, size: int) -> int:
    """How many groups of ``size`` hold all of ``items``."""
    return -(-items // size)
