"""Celery's messages in Redis, and what may become of them between the broker and a worker."""

from __future__ import annotations

import signal

from tests.faults.world import World
from tests.rig.programs import Program
from tests.rig.waiting import wait_for

#: Celery's queue in parts by priority: wake-ups and batches for which someone waits, and other batches.
WAKE_UPS, BATCHES = "approval_mail", "approval_mail\x06\x166"


def idle_worker(world: World) -> Program:
    """A worker whose first gather, that of its start, is over: nothing is under way in it."""
    worker = world.worker("--loglevel=INFO")
    worker.wait_for_line("succeeded in")
    return worker


def freeze(world: World, worker: Program) -> None:
    """SIGSTOP the group, and wait until the broker no longer hands a message to it."""
    worker.signal_group(signal.SIGSTOP)
    wait_for(lambda: world.client.info("clients")["blocked_clients"] == 0)


def thaw(worker: Program) -> None:
    worker.signal_group(signal.SIGCONT)


def lose(world: World) -> int:
    """Delete what Celery has in Redis; answers how many messages were in its queue."""
    lost: int = world.client.llen(WAKE_UPS) + world.client.llen(BATCHES)
    world.client.delete(WAKE_UPS, BATCHES, "unacked", "unacked_index")
    return lost


def double(world: World) -> None:
    """Put a copy of each message beside it, so that two processes take both at once."""
    for queue in (WAKE_UPS, BATCHES):
        messages = world.client.lrange(queue, 0, -1)
        world.client.delete(queue)
        for message in messages:
            world.client.rpush(queue, message, message)
