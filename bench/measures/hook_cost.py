"""What a hook costs its caller, against one raw Redis write and against a write with a Celery publish."""

from __future__ import annotations

from collections.abc import Callable

from bench.quantiles import milliseconds, quantile
from bench.ratios import Row, Spread, at_most, paired
from bench.world import World

#: Calls a second of each kind.
_RATE = 100


def rows(repeat: int, quick: bool, tell: Callable[[str], None]) -> list[Row]:
    """One process makes all three calls in turn; a worker takes what they bring."""
    p50: dict[str, list[float]] = {"hook": [], "write": []}
    p99: dict[str, list[float]] = {"hook": [], "publish": []}
    for number in range(1, repeat + 1):
        tell(f"{number} of {repeat}")
        with World() as world:
            world.worker(concurrency=2)
            taken = world.application("bench.side_by_side:durations", count=100 if quick else 1_500, rate=_RATE)
        for share, found in ((0.5, p50), (0.99, p99)):
            for kind, values in found.items():
                values.append(quantile(taken[kind], share))
    return [
        at_most(
            "hook against one raw Redis write, 100 calls/s, p50",
            2,
            paired(p50["hook"], p50["write"]),
            f"{_median(p50['hook'])} against {_median(p50['write'])}",
        ),
        at_most(
            "hook against one raw write and one Celery publish together, p99",
            1,
            paired(p99["hook"], p99["publish"]),
            f"{_median(p99['hook'])} against {_median(p99['publish'])}",
        ),
    ]


def _median(seconds: list[float]) -> str:
    return milliseconds(Spread.of(seconds).median)
