"""A slow mail server and more and more worker processes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from bench.burst import by_celery
from bench.ratios import Row, Spread, paired, stated
from bench.world import World

_PROCESSES = (1, 2, 4)


def rows(repeat: int, quick: bool, tell: Callable[[str], None]) -> list[Row]:
    """Bursts in proportion to the processes, so that each takes about as long."""
    each = 60 if quick else 600
    rates: dict[int, list[float]] = defaultdict(list)
    for number in range(1, repeat + 1):
        for processes in _PROCESSES:
            with World(sink="slow") as world:
                burst = by_celery(world, "hooks", each * processes, app="approval_mail", concurrency=processes)
            rates[processes].append(burst.rate)
            tell(f"{number} of {repeat}: slow, {processes} worker processes: {burst.rate:.0f}/s")
    one, *more = _PROCESSES
    return [
        stated(
            f"events/s on a slow server with {processes} worker processes against {one}",
            paired(rates[processes], rates[one]),
            f"{Spread.of(rates[processes])} against {Spread.of(rates[one])} events/s",
        )
        for processes in more
    ]
