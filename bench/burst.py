"""A burst of events through one peer: from the first call to the last 250."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.program import Program
from bench.world import World
from tests.rig.waiting import wait_for

#: Mails before the burst for each process that sends, so that templates are compiled and connections stand.
_WARM = 20
#: Seconds after the last 250 in which workers put on record what they did; it belongs to what a mail costs.
_TAIL = 1.0


@dataclass(frozen=True, slots=True)
class Burst:
    """What one burst took."""

    count: int
    #: From the first call to the last 250.
    seconds: float
    #: CPU seconds of all worker processes, and of the application's.
    worker_cpu: float
    application_cpu: float
    #: Mails that were accepted more than once.
    doubled: int
    #: Of the hooks, by receipt; empty for peers that have none.
    receipts: Mapping[str, int] = field(default_factory=dict)
    #: CPU seconds of the Redis server.
    redis_cpu: float = 0

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.count / self.seconds

    @property
    def cpu(self) -> float:
        """CPU seconds of workers and application for each 1,000 events."""
        return (self.worker_cpu + self.application_cpu) / self.count * 1000

    @property
    def cpu_with_redis(self) -> float:
        """The same, with those of the Redis server."""
        return self.cpu + self.redis_cpu / self.count * 1000

    @property
    def rate_of_cpu(self) -> float:
        """Events for each CPU second of the processes that send."""
        return self.count / (self.worker_cpu or self.application_cpu)

    @property
    def strays(self) -> str:
        """What a row must own up to: receipts other than accepted, and mails that came twice; mostly empty."""
        others = [f"{number:,} {receipt}" for receipt, number in self.receipts.items() if receipt != "accepted"]
        return ", ".join(others + [f"{self.doubled:,} mails twice"] * bool(self.doubled))


def by_celery(
    world: World,
    module: str,
    count: int,
    *,
    app: str = "",
    concurrency: int = 2,
    settings: Mapping[str, str] | None = None,
    warm_each: int = _WARM,
) -> Burst:
    """A burst that ``module`` of bench.peers calls, done by one Celery worker of ``app`` (none: the module's own).

    ``warm_each`` mails for each of its processes go before it.
    """
    worker = world.worker(app or f"bench.peers.{module}", concurrency=concurrency, settings=settings)
    return _through(world, [worker], module, count, warm_each * concurrency)


def by_programs(world: World, module: str, count: int, *, processes: int = 2) -> Burst:
    """A burst that ``module`` of bench.peers calls, done by so many processes that run the same module."""
    consumers = [world.program(["-m", f"bench.peers.{module}"]) for _ in range(processes)]
    # One that comes late would find no mail left to warm up with.
    wait_for(lambda: world.redis.info("clients")["blocked_clients"] >= processes, saying=f"{module} waiting for events")
    return _through(world, consumers, module, count, _WARM * processes)


def in_application(world: World, module: str, count: int) -> Burst:
    """A burst that ``module`` of bench.peers sends by itself."""
    told = world.application(f"bench.peers.{module}:run", first=0, count=count, warm=_WARM)
    ended = world.sink.wait_for(_WARM + count, within=_patience(count))
    return Burst(count, ended - told["began"], 0, told["cpu"], world.sink.accepted() - _WARM - count)


def _through(world: World, workers: Sequence[Program], module: str, count: int, warm: int) -> Burst:
    function = f"bench.peers.{module}:call"
    world.application(function, first=count, count=warm)
    world.sink.wait_for(warm, within=60)
    time.sleep(_TAIL)
    before, redis_before = _cpu(workers), _cpu_of_redis(world)
    told = world.application(function, first=0, count=count)
    ended = world.sink.wait_for(warm + count, within=_patience(count))
    time.sleep(_TAIL)
    return Burst(
        count,
        ended - told["began"],
        _cpu(workers) - before,
        told["cpu"],
        world.sink.accepted() - warm - count,
        told.get("receipts", {}),
        _cpu_of_redis(world) - redis_before,
    )


def _cpu(workers: Sequence[Program]) -> float:
    return sum(worker.cpu() for worker in workers)


def _cpu_of_redis(world: World) -> float:
    used = world.redis.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])


def _patience(count: int) -> float:
    """Seconds, within which even the slowest peer is done."""
    return 60 + count / 10
