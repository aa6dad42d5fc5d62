"""How NOTIFICATION_BATCH_SIZE, NOTIFICATION_BATCH_TIMEOUT and a worker's concurrency tell under several loads."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from bench.burst import Burst, by_celery
from bench.program import Program
from bench.quantiles import quantile
from bench.ratios import Spread, shown
from bench.world import World
from tests.rig.rabbitmq import RabbitMQ

#: NOTIFICATION_BATCH_SIZE and NOTIFICATION_BATCH_TIMEOUT (seconds): the guide's three rows and what lies around them.
_SETTINGS = ((1, 1), (5, 10), (10, 5), (20, 3), (50, 10), (100, 30))
#: Seconds that each load lasts, by its events a second.
_LOADS: Mapping[int, float] = {1: 20, 10: 20, 50: 20, 200: 10}
#: Events a second of all systems that run side by side: so few that none is in another's way.
_TOGETHER = 150
#: Seconds after the last mail, in which workers put on record and tell what they did.
_SETTLING = 1.5
_KINDS = {"approval_approved": "Outcomes (approval_approved)", "approval_requested": "Requests (approval_requested)"}
#: Pool processes on the slow mail server.
_CONCURRENCIES = (1, 2, 4, 8, 16)
#: What `conclude` logs of each gather.
_BATCHES_DONE = re.compile(r"Batches done: (\d+) batches, (\d+) sent")
_WORDS = """\
In each cell: p50 / p99 from the hook's call to the server's 250, in seconds; events to a batch; CPU seconds of the
worker for each 1,000 events, what it costs to wait for them included. A worker with two processes, a fast mail server.
"""


@dataclass(frozen=True, slots=True)
class _System:
    """A world of its own with these settings, and its worker."""

    batch_size: int
    #: Seconds.
    batch_timeout: float
    world: World
    worker: Program


@dataclass(frozen=True, slots=True)
class _Cell:
    """What one load came to with one pair of settings."""

    #: Seconds from the hook's call to the 250.
    p50: float
    p99: float
    #: Events.
    batch: float
    #: Seconds for each 1,000 events.
    cpu: float
    #: Events that went by the spool.
    not_accepted: int

    def __str__(self) -> str:
        spooled = f"; {self.not_accepted} spooled" if self.not_accepted else ""
        return f"{self.p50:.2f} / {self.p99:.2f}; {self.batch:.1f}; {self.cpu:.1f}{spooled}"


def table(quick: bool, tell: Callable[[str], None]) -> str:
    """The loads against the settings, for outcomes and for requests, then the concurrencies: Markdown."""
    settings = _SETTINGS[::2] if quick else _SETTINGS
    with ExitStack() as stack:
        systems = [_start(stack, size, timeout) for size, timeout in settings]
        parts = [_WORDS]
        for kind, title in _KINDS.items():
            cells = [_under_load(systems, kind, load, 3 if quick else _LOADS[load], tell) for load in _LOADS]
            parts.append(_loads_table(title, systems, cells))
    return "\n".join([*parts, _concurrency_table(quick, tell), _broker_table(quick, tell)])


def _start(stack: ExitStack, batch_size: int, batch_timeout: float) -> _System:
    settings = {"NOTIFICATION_BATCH_SIZE": str(batch_size), "NOTIFICATION_BATCH_TIMEOUT": str(batch_timeout)}
    world = stack.enter_context(World(settings=settings))
    return _System(batch_size, batch_timeout, world, world.worker(concurrency=2))


def _under_load(
    systems: Sequence[_System], kind: str, load: int, seconds: float, tell: Callable[[str], None]
) -> list[_Cell]:
    """One cell for each system, as many side by side as the machine has room for."""
    tell(f"{kind} at {load}/s")
    with ThreadPoolExecutor(max(1, _TOGETHER // load)) as side_by_side:
        return list(side_by_side.map(lambda system: _cell(system, kind, load, seconds), systems))


def _cell(system: _System, kind: str, load: int, seconds: float) -> _Cell:
    world, worker, count = system.world, system.worker, round(load * seconds)
    told_before, cpu_before = len(worker.output()), worker.cpu()
    world.sink.reset()
    # Numbers of their own: an event that is told twice is one event, and an outcome makes a late request moot.
    first = (list(_KINDS).index(kind) * 1_000 + load) * 10_000
    made = world.application("bench.paced_hooks:calls", kind=kind, first=first, count=count, rate=load)
    world.sink.wait_for(count, within=system.batch_timeout + 60)
    time.sleep(_SETTLING)
    cpu = worker.cpu() - cpu_before
    arrivals = world.sink.arrivals()
    waits = [arrivals[request_id] - began for request_id, began in made["began"].items()]
    if system.batch_size < min(load * system.batch_timeout, count):
        # Batches fill before their time; the last one waited for company that no longer came.
        del waits[-system.batch_size :]
    batches, sent = map(sum, zip(*_batches_done(worker.output()[told_before:]), strict=True))
    return _Cell(quantile(waits, 0.5), quantile(waits, 0.99), sent / batches, cpu / count * 1000, made["not_accepted"])


def _batches_done(log: str) -> list[tuple[int, int]]:
    """Batches and mails of each gather."""
    return [(int(batches), int(sent)) for batches, sent in _BATCHES_DONE.findall(log)]


def _loads_table(title: str, systems: Sequence[_System], cells: Sequence[Sequence[_Cell]]) -> str:
    """``cells`` is a list of one cell per system for each load."""
    head = [f"{title}: BATCH_SIZE, BATCH_TIMEOUT", *(f"{load}/s" for load in _LOADS)]
    rows = [
        [f"{system.batch_size}, {system.batch_timeout:g} s", *map(str, of_system)]
        for system, of_system in zip(systems, zip(*cells, strict=True), strict=True)
    ]
    return _markdown(head, rows)


def _concurrency_table(quick: bool, tell: Callable[[str], None]) -> str:
    rates: dict[int, float] = {}
    for concurrency in _CONCURRENCIES:
        tell(f"{concurrency} processes on a slow mail server")
        with World(sink="slow") as world:
            count = (50 if quick else 250) * concurrency
            rates[concurrency] = by_celery(world, "hooks", count, app="approval_mail", concurrency=concurrency).rate
    head = ["A slow mail server (2 ms per reply, 10 ms at the dot): --concurrency", *map(str, rates)]
    return _markdown(
        head,
        [
            ["events/s", *(shown(rate) for rate in rates.values())],
            ["times one process", *(shown(rate / rates[_CONCURRENCIES[0]]) for rate in rates.values())],
        ],
    )


def _broker_table(quick: bool, tell: Callable[[str], None]) -> str:
    """Bursts with Redis as the broker and with RabbitMQ, in turn."""
    if not shutil.which("rabbitmq-server", path=f"{os.environ['PATH']}:/usr/sbin"):
        return "RabbitMQ is not installed here, so it was not measured.\n"
    count, repeat = (300, 1) if quick else (3_000, 3)
    bursts: dict[str, list[Burst]] = {"Redis": [], "RabbitMQ": []}
    with tempfile.TemporaryDirectory() as folder:
        node = RabbitMQ(Path(folder)).start()
        try:
            for _, broker in product(range(repeat), bursts):
                tell(f"a burst with {broker} as the broker")
                with World(settings={"CELERY_BROKER_URL": node.url} if broker == "RabbitMQ" else {}) as world:
                    bursts[broker].append(by_celery(world, "hooks", count, app="approval_mail"))
        finally:
            node.kill()
    return _markdown(
        [f"A burst of {count:,} requests, by broker", *bursts],
        [
            ["events/s", *(str(Spread.of([burst.rate for burst in found])) for found in bursts.values())],
            ["CPU s per 1,000 events", *(str(Spread.of([burst.cpu for burst in found])) for found in bursts.values())],
        ],
    )


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
