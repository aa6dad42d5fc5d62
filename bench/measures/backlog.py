"""What a backlog costs those who come after: hooks, and the gathering of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

from bench.quantiles import milliseconds, quantile
from bench.ratios import Row, Spread, at_most, paired
from bench.world import World
from tests.rig.waiting import wait_for

#: The words of the table, and the type that each is.
_KINDS = {"outcomes": "approval_approved", "requests": "approval_requested"}
#: Calls a second.
_RATE = 100
#: Events. Most that are pending beside a full store's claim in the store it is compared with.
_FEW = 1_000
#: Processes that record the backlog.
_PROCESSES = 2


@dataclass(slots=True)
class _Pairs:
    """Seconds at p50, repetition by repetition, with a backlog and without."""

    full: list[float] = field(default_factory=list)
    empty: list[float] = field(default_factory=list)
    #: Events that the last gather of each claimed.
    claimed: tuple[int, int] = (0, 0)

    def row(self, measure: str) -> Row:
        claims = f"; {self.claimed[0]:,} and {self.claimed[1]:,} events claimed" if self.claimed[0] else ""
        return at_most(
            measure, 1.3, paired(self.full, self.empty), f"{_median(self.full)} against {_median(self.empty)}{claims}"
        )


def rows(repeat: int, quick: bool, tell: Callable[[str], None]) -> list[Row]:
    """Stores side by side, one full of each kind and an empty one; no worker runs."""
    pending, calls, gathers = (20_000, 100, 10) if quick else (100_000, 500, 30)
    hook = _Pairs()
    gather = {kind: _Pairs() for kind in _KINDS}
    with ExitStack() as stack:
        empty = stack.enter_context(World())
        full = {kind: stack.enter_context(World()) for kind in _KINDS}
        for kind, world in full.items():
            tell(f"recording {pending:,} {kind}")
            _fill(world, _KINDS[kind], pending)
        for number in range(repeat):
            tell(f"{number + 1} of {repeat}")
            _call_hooks(full["outcomes"], empty, hook, first=pending + number * calls, count=calls)
            for kind, pairs in gather.items():
                _gather(full[kind], empty, pairs, kind=_KINDS[kind], count=gathers)
    return [
        hook.row(f"a hook with {pending:,} events pending against none, p50"),
        *(
            pairs.row(f"a gather with {pending:,} {kind} pending against none but those it claims, p50")
            for kind, pairs in gather.items()
        ),
    ]


def _fill(world: World, kind: str, count: int) -> None:
    share = count // _PROCESSES
    with ThreadPoolExecutor(_PROCESSES) as processes:
        recordings = [
            processes.submit(world.application, "bench.stored:record", kind=kind, first=first, count=share)
            for first in range(0, count, share)
        ]
    for recording in recordings:
        recording.result()
    # Rewriting its file would slow the full one down.
    wait_for(lambda: not world.redis.info("persistence")["aof_rewrite_in_progress"], seconds=120)


def _call_hooks(full: World, empty: World, pairs: _Pairs, *, first: int, count: int) -> None:
    """Both at the same time, so that both meet the same machine."""
    empty.redis.flushdb()
    with ThreadPoolExecutor(2) as processes:
        p50s = [processes.submit(_hook_p50, world, first=first, count=count) for world in (full, empty)]
    pairs.full.append(p50s[0].result())
    pairs.empty.append(p50s[1].result())


def _hook_p50(world: World, *, first: int, count: int) -> float:
    made = world.application("bench.paced_hooks:calls", kind=_KINDS["outcomes"], first=first, count=count, rate=_RATE)
    if made["not_accepted"]:
        raise RuntimeError(
            f"{made['not_accepted']} of {count} events were not accepted: those calls cost something else"
        )
    return quantile(made["taken"], 0.5)


def _gather(full: World, empty: World, pairs: _Pairs, *, kind: str, count: int) -> None:
    """First with the backlog, then where no more is pending than that claimed."""
    function = "bench.stored:gathers"
    with_backlog = full.application(function, kind=kind, count=count)
    claimed = with_backlog[-1][1]
    alone = empty.application(function, kind=kind, count=count, alone=min(claimed, _FEW))
    pairs.full.append(_p50(with_backlog))
    pairs.empty.append(_p50(alone))
    pairs.claimed = (claimed, alone[-1][1])


def _p50(taken: Sequence[tuple[float, int]]) -> float:
    return quantile([seconds for seconds, _ in taken], 0.5)


def _median(seconds: Sequence[float]) -> str:
    return milliseconds(Spread.of(seconds).median)
