"""From the hook's call to the mail server's 250: of a lone request, and of outcomes that come steadily."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bench.quantiles import milliseconds, quantile
from bench.ratios import Row, Spread, at_most, paired
from bench.world import World

#: Seconds from one lone request to the next: longer than NOTIFICATION_URGENT_TIMEOUT, within which they ride together.
_EVERY = 1.2
#: Calls each way at the start that do not count: connections are made in them.
_WARM_UP = 2
#: Outcomes a second.
_RATE = 100
#: Seconds. NOTIFICATION_BATCH_TIMEOUT as it is by default.
_BATCH_TIMEOUT = 5.0


def rows(repeat: int, quick: bool, tell: Callable[[str], None]) -> list[Row]:
    """Lone requests go by hook and by plain Celery in turn, past two workers that wait side by side."""
    lone: dict[str, list[list[float]]] = {"hook": [], "task": []}
    outcomes = []
    not_accepted = 0
    for number in range(1, repeat + 1):
        tell(f"{number} of {repeat}: lone requests")
        for way, seconds in _lone(10 if quick else 60).items():
            lone[way].append(seconds)
        tell(f"{number} of {repeat}: outcomes")
        waits, others = _outcomes(seconds=5 if quick else 20)
        outcomes.append(waits)
        not_accepted += others
    return [_against_plain_celery(lone, name, share) for name, share in (("p50", 0.5), ("p99", 0.99))] + [
        _against_batch_timeout(outcomes, not_accepted)
    ]


def _lone(count: int) -> dict[str, list[float]]:
    """Seconds to the 250 of requests told by hook, and of those by task."""
    with World() as world:
        world.worker(concurrency=2)
        world.worker("bench.peers.plain_celery", concurrency=2)
        count += _WARM_UP
        told = world.application("bench.lone_requests:calls", count=count, every=_EVERY)
        world.sink.wait_for(2 * count, within=30)
        arrivals = world.sink.arrivals()
    return {way: _waits(began, arrivals)[_WARM_UP:] for way, began in told.items()}


def _outcomes(*, seconds: float) -> tuple[list[float], int]:
    """Seconds to the 250 of each outcome, and how many were not accepted by Redis at once."""
    count = round(_RATE * seconds)
    with World() as world:
        world.worker(concurrency=2)
        made = world.application("bench.paced_hooks:calls", kind="approval_approved", first=0, count=count, rate=_RATE)
        world.sink.wait_for(count, within=60)
        return _waits(made["began"], world.sink.arrivals()), made["not_accepted"]


def _waits(began: Mapping[str, float], arrivals: Mapping[str, float]) -> list[float]:
    return [arrivals[request_id] - moment for request_id, moment in began.items()]


def _against_plain_celery(lone: Mapping[str, list[list[float]]], name: str, share: float) -> Row:
    hook, task = ([quantile(seconds, share) for seconds in lone[way]] for way in ("hook", "task"))
    return at_most(
        f"a lone approval_requested, hook call to 250, {name}, against plain Celery (b)",
        3,
        paired(hook, task),
        f"{milliseconds(Spread.of(hook).median)} against {milliseconds(Spread.of(task).median)}",
        note=f"{len(lone['hook'][0])} calls each way, {_EVERY:g} s apart",
    )


def _against_batch_timeout(outcomes: list[list[float]], not_accepted: int) -> Row:
    p50, p99 = (Spread.of([quantile(seconds, share) for seconds in outcomes]) for share in (0.5, 0.99))
    return at_most(
        f"outcomes at {_RATE}/s, hook call to 250, p99, against NOTIFICATION_BATCH_TIMEOUT",
        1,
        Spread.of([quantile(seconds, 0.99) / _BATCH_TIMEOUT for seconds in outcomes]),
        f"{milliseconds(p99.median)} (p50 {milliseconds(p50.median)}) against {_BATCH_TIMEOUT:g} s",
        note=f"{not_accepted} went by the spool" if not_accepted else "",
    )
