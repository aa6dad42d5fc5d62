"""What happened between looks: rates, their course, times to acceptance; looks in, a view out. Pure."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from approval_mail.cli.live.headline import Facts, Headline, headline
from approval_mail.cli.live.looks import Look, Lost, News
from approval_mail.overview import Around
from approval_mail.store.counters import ABOVE, DELIVERY_BOUNDS
from approval_mail.timing import beat_lives

#: Seconds that "now" is taken over: a few looks, so that it does not jump about.
_NOW = 5.0
_MINUTE = 60.0
#: Seconds that are remembered.
SPAN = 300.0
#: Seconds of one bar of a course.
BAR = 10.0
#: Seconds beyond the interval that a look may take before it is said that Redis does not answer.
_OVERDUE = 3.0
#: What may have come of a try that was not accepted, and was one.
_FAILED = frozenset(("failed", "unknown", "dead"))
#: Labels of the histogram's buckets, and the seconds within which what is in them was.
_BUCKETS = {**{f"{bound:g}": float(bound) for bound in DELIVERY_BOUNDS}, ABOVE: math.inf}


@dataclass(frozen=True, slots=True)
class Throughput:
    """Rates are per second; None: nothing is known yet."""

    recorded_now: float | None = None
    accepted_now: float | None = None
    recorded_minute: float | None = None
    accepted_minute: float | None = None
    #: Rates of the last SPAN seconds, oldest first, None where nobody looked.
    recorded_course: tuple[float | None, ...] = ()
    accepted_course: tuple[float | None, ...] = ()
    #: Mails that were accepted within SPAN, as far as it was seen.
    delivered: int = 0
    #: Seconds from event to acceptance within which half of them, and 95 % of them, were; the histogram's bounds.
    p50: float | None = None
    p95: float | None = None


@dataclass(frozen=True, slots=True)
class View:
    """Everything there is to show."""

    headline: Headline
    #: The last look that succeeded.
    look: Look | None
    #: Redis is out of reach: all but the headline is from before.
    stale: bool
    around: Around | None
    throughput: Throughput
    #: Beat has gathered lately.
    beat_lives: bool


@dataclass(frozen=True, slots=True)
class _Point:
    """Counters that only grow, at one look."""

    clock: float
    recorded: int
    accepted: int
    failed: int
    died: int
    rescued: int
    buckets: tuple[int, ...]

    @classmethod
    def of(cls, look: Look) -> _Point:
        found = look.counters
        return cls(
            look.clock,
            _sum(found, "recorded"),
            _sum(found, "accepted"),
            sum(count for key, count in found.items() if key[0] == "attempts" and key[1] in _FAILED),
            _sum(found, "dead"),
            _sum(found, "rescued"),
            tuple(found.get(("delivery", label), 0) for label in _BUCKETS),
        )

    def is_after(self, earlier: _Point) -> bool:
        """False: what was counted is gone, for the data of Redis were put back or removed."""
        mine, its = (
            (point.recorded, point.accepted, point.failed, point.died, point.rescued, *point.buckets)
            for point in (self, earlier)
        )
        return all(now >= before for now, before in zip(mine, its, strict=True))


def _sum(counters: Mapping[tuple[str, ...], int], name: str) -> int:
    return sum(count for key, count in counters.items() if key[0] == name)


class Trend:
    """Takes what is found, and answers what to show."""

    def __init__(
        self, *, enabled: bool, batch_timeout: float, interval: float, moment: Callable[[datetime], str]
    ) -> None:
        """``batch_timeout`` and ``interval`` are seconds; ``moment`` tells a time to a person."""
        self._enabled = enabled
        self._batch_timeout = batch_timeout
        self._interval = interval
        self._moment = moment
        #: Those of the last SPAN seconds and the one before them, oldest first.
        self._points: list[_Point] = []
        self._look: Look | None = None
        self._lost: Lost | None = None
        self._around: Around | None = None
        #: When Redis was last asked and answered, or refused to.
        self._heard: float | None = None

    def add(self, news: News) -> None:
        if isinstance(news, Around):
            self._around = news
            return
        self._heard = news.clock
        if isinstance(news, Lost):
            self._lost = self._lost or news
            return
        self._look, self._lost = news, None
        point = _Point.of(news)
        if self._points and not point.is_after(self._points[-1]):
            self._points.clear()
        self._points.append(point)
        while len(self._points) > 2 and self._points[1].clock <= point.clock - SPAN:
            del self._points[0]

    def view(self, clock: float) -> View:
        """What to show at ``clock``, seconds by time.monotonic()."""
        return View(
            headline(self._facts(clock), self._moment),
            self._look,
            self._lost is not None,
            self._around,
            self._throughput(),
            self._look is not None and beat_lives(self._look.counts.beat_seconds_ago, self._batch_timeout),
        )

    def _facts(self, clock: float) -> Facts:
        silent = clock - self._heard if self._heard is not None else 0.0
        return Facts(
            enabled=self._enabled,
            batch_timeout=self._batch_timeout,
            look=self._look,
            around=self._around,
            lost=self._lost,
            overdue=silent if silent > self._interval + _OVERDUE else 0.0,
            seen=min(self._seen(), _MINUTE),
            accepted=self._grown("accepted", _MINUTE),
            failed=self._grown("failed", _MINUTE),
            died=max(self._grown("died", SPAN), self._died_lately()),
            rescued=self._grown("rescued", SPAN),
        )

    def _died_lately(self) -> int:
        """Of the failures on record, those that are so young, also from before the first look."""
        look = self._look
        if look is None:
            return 0
        return sum(one.result == "dead" and (look.at - one.at).total_seconds() < SPAN for one in look.failures)

    def _seen(self) -> float:
        return self._points[-1].clock - self._points[0].clock if self._points else 0.0

    def _throughput(self) -> Throughput:
        if self._seen() <= 0:
            return Throughput()
        first, last = self._points[0], self._points[-1]
        delivered = [now - before for now, before in zip(last.buckets, first.buckets, strict=True)]
        return Throughput(
            self._rate("recorded", last.clock - _NOW, last.clock),
            self._rate("accepted", last.clock - _NOW, last.clock),
            self._rate("recorded", last.clock - _MINUTE, last.clock),
            self._rate("accepted", last.clock - _MINUTE, last.clock),
            self._course("recorded"),
            self._course("accepted"),
            sum(delivered),
            _within(delivered, 0.5),
            _within(delivered, 0.95),
        )

    def _course(self, name: str) -> tuple[float | None, ...]:
        """The rate in each bar; bars begin at multiples of BAR, so that they stand still while time passes."""
        end = math.floor(self._points[-1].clock / BAR)
        bars = range(end - round(SPAN / BAR) + 1, end + 1)
        return tuple(self._rate(name, bar * BAR, (bar + 1) * BAR) for bar in bars)

    def _rate(self, name: str, begin: float, end: float) -> float | None:
        """Per second, over as much of this time as was seen."""
        begin, end = max(begin, self._points[0].clock), min(end, self._points[-1].clock)
        return (self._at(name, end) - self._at(name, begin)) / (end - begin) if end > begin else None

    def _grown(self, name: str, seconds: float) -> int:
        """By how much a counter has grown, over as much of the last ``seconds`` as was seen.

        Above nothing it is 1 at least: what happened between two looks may lie partly before that time.
        """
        if not self._points:
            return 0
        last = self._points[-1].clock
        return math.ceil(self._at(name, last) - self._at(name, max(last - seconds, self._points[0].clock)) - 1e-6)

    def _at(self, name: str, clock: float) -> float:
        """A counter at a time between looks, as if it had grown evenly between them."""
        place = bisect_right(self._points, clock, key=lambda point: point.clock)
        before = self._points[max(place - 1, 0)]
        after = self._points[min(place, len(self._points) - 1)]
        value: int = getattr(before, name)
        if after.clock == before.clock:
            return value
        grown: int = getattr(after, name) - value
        return value + grown * (clock - before.clock) / (after.clock - before.clock)


def _within(counts: list[int], share: float) -> float | None:
    """The bound of the bucket that the given share of them all is reached in; None if there are none."""
    wanted = math.ceil(share * sum(counts))
    reached = 0
    for count, seconds in zip(counts, _BUCKETS.values(), strict=True):
        reached += count
        if reached >= wanted > 0:
            return seconds
    return None
