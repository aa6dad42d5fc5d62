"""Figures of several repetitions, and rows of the table. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of a measure's repetitions, the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{shown(self.median)} ({shown(self.low)}..{shown(self.high)})"


@dataclass(frozen=True, slots=True)
class Row:
    """One measure beside its goal."""

    measure: str
    #: As the table shows it; empty: the figure is stated, without a goal.
    goal: str
    ratio: Spread
    met: bool
    #: The absolute figures that the ratio was made of.
    figures: str
    note: str = ""
    #: Share of the goal by which the median misses it.
    missed_by: float = 0
    #: Of ``ratio``.
    unit: str = "times"


def paired(over: Sequence[float], under: Sequence[float]) -> Spread:
    """The ratios of two measures, repetition by repetition: what slowed one down slowed the other as well."""
    return Spread.of([one / other for one, other in zip(over, under, strict=True)])


def at_least(measure: str, bound: float, ratio: Spread, figures: str, *, note: str = "", unit: str = "times") -> Row:
    """A row whose median must reach ``bound``."""
    short = max(0.0, 1 - ratio.median / bound)
    return Row(measure, f"at least {shown(bound)} {unit}", ratio, short == 0, figures, note, short, unit)


def at_most(measure: str, bound: float, ratio: Spread, figures: str, *, note: str = "", unit: str = "times") -> Row:
    """A row whose median must not exceed ``bound``."""
    excess = max(0.0, ratio.median / bound - 1)
    return Row(measure, f"at most {shown(bound)} {unit}", ratio, excess == 0, figures, note, excess, unit)


def stated(measure: str, ratio: Spread, figures: str, *, note: str = "", unit: str = "times") -> Row:
    """A row without a goal."""
    return Row(measure, "", ratio, True, figures, note, 0, unit)


def shown(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 0.001 or value == 0 else f"{value:.6f}"
