"""The judge of figures bites: made-up samples of what leaks, and of what merely moves."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import chain

import pytest

from tests.soak.bounds import all_bounds
from tests.soak.flatness import Bound, judge, worst
from tests.soak.samples import Sample

MEMORY = Bound("worker", "uss", 0.03, 1.0, "worker: memory", "MB")
#: Seconds of a life, with a sample every five.
HOUR = 3600


def series(
    figure: Callable[[float], float], *, life: str = "1", since: float = 0, seconds: float = HOUR
) -> list[Sample]:
    """``figure`` of the seconds that this life lasts."""
    ages = range(0, int(seconds), 5)
    return [Sample(since + age, "worker", life, "uss", figure(age)) for age in ages]


def filling(age: float) -> float:
    """A process that has met everything after five minutes."""
    return 30 + min(age, 300) / 30


def test_what_fills_up_and_stays_is_flat() -> None:
    [verdict] = judge(series(filling), [MEMORY])
    assert verdict.is_flat
    assert verdict.growth == 0


def test_what_moves_around_a_level_is_flat() -> None:
    chance = random.Random(7)
    [verdict] = judge(series(lambda age: filling(age) + chance.uniform(-3, 3) + 20 * (age % 500 == 0)), [MEMORY])
    assert verdict.is_flat


def test_a_list_that_grows_by_a_hundred_bytes_a_mail_is_found_in_the_hour() -> None:
    """50 mails a second, of which this process sends half."""
    [verdict] = judge(series(lambda age: filling(age) + age * 25 * 100 / 1024 / 1024), [MEMORY])
    assert not verdict.is_flat
    assert verdict.growth == pytest.approx(verdict.seconds * 0.5 * 2500 / 1024 / 1024, rel=0.02)


def test_each_life_begins_anew() -> None:
    """Three lives that are young and small again, and one that grows: it alone is found."""
    quiet = [series(filling, life=str(n), since=n * 900, seconds=900) for n in range(3)]
    grows = series(lambda age: filling(age) + age / 300, life="3", since=2700, seconds=900)
    verdicts = list(judge([*chain(*quiet), *grows], [MEMORY]))
    assert [verdict.life for verdict in verdicts if not verdict.is_flat] == ["3"]
    assert [verdict.life for verdict in worst(verdicts)] == ["3"]


def test_a_restart_does_not_hide_growth_of_what_is_not_restarted() -> None:
    shared = Bound("worker", "uss", 0, 3, "Redis: connections")
    [verdict] = judge(series(lambda age: 30 + 4 * (age // 600)), [shared])
    assert not verdict.is_flat


def test_one_connection_that_is_never_closed_each_ten_minutes_is_found() -> None:
    connections = Bound("worker", "uss", 0, 1, "mail server: open connections")
    [verdict] = judge(series(lambda age: 2 + age // 600), [connections])
    assert not verdict.is_flat


def test_a_history_that_does_not_expire_is_found() -> None:
    [bound] = [bound for bound in all_bounds() if bound.measure == "keys event"]
    full = bound.warm_up - 60

    def held(most: float) -> list[Sample]:
        return [Sample(at, bound.subject, "", bound.measure, 50 * min(at, most)) for at in range(0, HOUR, 30)]

    [forgets] = judge(held(full), [bound])
    [keeps] = judge(held(HOUR), [bound])
    assert (forgets.is_judged, forgets.is_flat) == (True, True)
    assert not keeps.is_flat


@pytest.mark.parametrize("seconds", [10, 60])
def test_a_life_that_was_too_short_is_not_judged(seconds: float) -> None:
    [verdict] = judge(series(filling, seconds=seconds), [Bound("worker", "uss", 0, 0, "worker", warm_up=50)])
    assert not verdict.is_judged
    assert verdict.is_flat


def test_a_figure_that_shrinks_is_flat() -> None:
    [verdict] = judge(series(lambda age: 60 - age / 100), [MEMORY])
    assert verdict.is_flat
