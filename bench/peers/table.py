"""Each peer by its letter in docs/performance.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.burst import Burst, by_celery, by_programs, in_application
from bench.world import World

#: Processes that send, of each peer that has workers.
WORKERS = 2


@dataclass(frozen=True, slots=True)
class Peer:
    """One of the systems that are compared."""

    #: In a few words, for progress and figures.
    name: str
    #: Send so many events through it, in a world made for this.
    run: Callable[[World, int], Burst]
    needs_redis: bool = True

    def burst(self, count: int, sink: str) -> Burst:
        """Send ``count`` events to a sink of this kind, in a world of its own."""
        with World(sink=sink, redis=self.needs_redis) as world:
            return self.run(world, count)


PEERS: Mapping[str, Peer] = {
    "a": Peer("bare loop", lambda world, count: in_application(world, "bare_loop", count), needs_redis=False),
    "b": Peer("plain Celery", lambda world, count: by_celery(world, "plain_celery", count, concurrency=WORKERS)),
    "c": Peer("celery-batches", lambda world, count: by_celery(world, "batches", count, concurrency=WORKERS)),
    "d": Peer("asyncio queue", lambda world, count: in_application(world, "asyncio_queue", count), needs_redis=False),
    "e": Peer("list consumers", lambda world, count: by_programs(world, "list_consumers", count, processes=WORKERS)),
    "f": Peer("hooks", lambda world, count: by_celery(world, "hooks", count, app="approval_mail", concurrency=WORKERS)),
    "g": Peer(
        "notify.delay", lambda world, count: by_celery(world, "notify", count, app="approval_mail", concurrency=WORKERS)
    ),
}


def batches_of(flush_every: int) -> Peer:
    """celery-batches (c) with so many mails at once."""
    settings = {"BENCH_FLUSH_EVERY": str(flush_every)}
    return Peer(
        f"celery-batches, flush_every {flush_every}",
        # Fewer to warm up with would go to one process, all at once.
        lambda world, count: by_celery(
            world, "batches", count, concurrency=WORKERS, settings=settings, warm_each=flush_every
        ),
    )
