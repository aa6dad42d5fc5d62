"""What importing the hooks costs a web process, against importing Celery alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence

from bench.quantiles import milliseconds
from bench.ratios import Row, Spread, at_most, paired, stated

#: `import celery` alone loads next to nothing: its names come when they are first used.
_CELERY = "from celery import Celery"
_HOOKS = "import approval_mail.hooks"
#: What Celery itself imports by the first task that it sends over Redis; the hooks' module does so before any call.
_PUBLISHER = (
    "from celery import Celery; import celery.app.amqp, celery.backends.redis, kombu.pools, kombu.transport.redis"
)
#: The interpreter's own start is left out: it would only bring the two nearer to each other.
_TIMED = """
import time
wall, cpu = time.perf_counter(), time.process_time()
{statement}
print(time.perf_counter() - wall, time.process_time() - cpu)
"""


def rows(repeat: int, quick: bool, tell: Callable[[str], None]) -> list[Row]:
    """Interpreters of their own, in turn; each repetition is the ratio of the medians of so many of each."""
    taken: dict[str, list[tuple[Spread, Spread]]] = {_HOOKS: [], _CELERY: [], _PUBLISHER: []}
    for number in range(1, repeat + 1):
        tell(f"{number} of {repeat}")
        found: dict[str, list[tuple[float, float]]] = {statement: [] for statement in taken}
        for _ in range(5 if quick else 20):
            for statement, values in found.items():
                values.append(_seconds(statement))
        for statement, values in found.items():
            walls, cpus = zip(*values, strict=True)
            taken[statement].append((Spread.of(walls), Spread.of(cpus)))
    wall, cpu = (_ratio(taken[_HOOKS], taken[_CELERY], which) for which in (0, 1))
    return [
        at_most(
            "import of approval_mail.hooks against celery's (`from celery import Celery`)",
            1.3,
            wall,
            f"{_median(taken[_HOOKS])} against {_median(taken[_CELERY])}; CPU time {cpu} times",
        ),
        stated(
            "import of approval_mail.hooks against what celery imports by its first task over Redis",
            _ratio(taken[_HOOKS], taken[_PUBLISHER], 0),
            f"{_median(taken[_HOOKS])} against {_median(taken[_PUBLISHER])}",
        ),
    ]


def _ratio(ours: Sequence[tuple[Spread, Spread]], theirs: Sequence[tuple[Spread, Spread]], which: int) -> Spread:
    """Of wall times (0) or CPU times (1), repetition by repetition."""
    return paired([found[which].median for found in ours], [found[which].median for found in theirs])


def _seconds(statement: str) -> tuple[float, float]:
    """Wall and CPU time."""
    command = [sys.executable, "-c", _TIMED.format(statement=statement)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    wall, cpu = run.stdout.split()
    return float(wall), float(cpu)


def _median(repetitions: Sequence[tuple[Spread, Spread]]) -> str:
    return milliseconds(Spread.of([wall.median for wall, _ in repetitions]).median)
