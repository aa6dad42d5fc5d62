"""A slow mail server: eight connections against one that is kept."""

from __future__ import annotations

from collections.abc import Callable

from bench.burst import by_celery, in_application
from bench.ratios import Row, Spread, at_least, paired
from bench.world import World

_CONNECTIONS = 8


def rows(repeat: int, quick: bool, tell: Callable[[str], None]) -> list[Row]:
    """This project with eight worker processes, and the bare loop, in turn."""
    few, many = (60, 400) if quick else (600, 4_000)
    ours: list[float] = []
    loop: list[float] = []
    for number in range(1, repeat + 1):
        with World(sink="slow") as world:
            burst = by_celery(world, "hooks", many, app="approval_mail", concurrency=_CONNECTIONS)
            ours.append(burst.rate)
        with World(sink="slow", redis=False) as world:
            loop.append(in_application(world, "bare_loop", few).rate)
        tell(f"{number} of {repeat}: slow, hooks {ours[-1]:.0f}/s, bare loop {loop[-1]:.0f}/s")
    return [
        at_least(
            f"slow server, (f) with {_CONNECTIONS} connections against (a) with one that is kept",
            6,
            paired(ours, loop),
            f"(f) {Spread.of(ours)}, (a) {Spread.of(loop)} events/s",
            note=f"bursts of {many:,} and of {few:,} events, for either to take some seconds",
        )
    ]
