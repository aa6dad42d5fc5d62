"""Whether a figure stays where it was: its first window after a warm-up against its last. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from tests.soak.samples import Sample


@dataclass(frozen=True, slots=True)
class Bound:
    """How much a figure may grow from window to window: by a part of itself, or by so much if that is more."""

    subject: str
    measure: str
    #: Of the first window's median.
    part: float
    #: In the figure's own unit.
    least: float
    #: As the table names it.
    title: str
    unit: str = ""
    #: Seconds after which its warm-up is over; before, a figure is filled up rather than flat.
    warm_up: float = 0.0

    def allowed(self, early: float) -> float:
        return max(self.part * early, self.least)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One figure of one life."""

    bound: Bound
    life: str
    #: Seconds that this life was watched.
    seconds: float
    #: Medians of the first and of the last third after the warm-up; None where too little was seen to tell.
    early: float | None
    late: float | None

    @property
    def is_judged(self) -> bool:
        return self.early is not None

    @property
    def growth(self) -> float:
        return (self.late or 0) - (self.early or 0)

    @property
    def allowed(self) -> float:
        return self.bound.allowed(self.early or 0)

    @property
    def is_flat(self) -> bool:
        return not self.is_judged or self.growth <= self.allowed

    def sentence(self) -> str:
        """What a figure that is not flat did."""
        unit = f" {self.bound.unit}" if self.bound.unit else ""
        return (
            f"{self.bound.title} (life {self.life or '-'}, {self.seconds:.0f} s) grew from {self.early or 0:.2f} "
            f"to {self.late or 0:.2f}{unit}; {self.allowed:.2f} more are allowed"
        )


#: Of a life, at least; what was given in seconds may be more.
_WARM_UP = 0.25
#: Samples in each window, at least.
_FEWEST = 4


def judge(samples: Iterable[Sample], bounds: Sequence[Bound]) -> Iterator[Verdict]:
    """One verdict per bound and life, by the bounds' order; a bound without samples has none."""
    series: dict[tuple[str, str], dict[str, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    for sample in samples:
        series[sample.subject, sample.measure][sample.life].append(sample)
    for bound in bounds:
        for life, row in series.get((bound.subject, bound.measure), {}).items():
            yield _verdict(bound, life, row)


def _verdict(bound: Bound, life: str, row: Sequence[Sample]) -> Verdict:
    began, ended = row[0].at, row[-1].at
    start = began + max(_WARM_UP * (ended - began), bound.warm_up)
    third = (ended - start) / 3
    early = [sample.value for sample in row if start <= sample.at <= start + third]
    late = [sample.value for sample in row if sample.at >= ended - third]
    if third <= 0 or min(len(early), len(late)) < _FEWEST:
        return Verdict(bound, life, ended - began, None, None)
    return Verdict(bound, life, ended - began, median(early), median(late))


def worst(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Of each bound one verdict that stands for all of its lives: one that is not flat, else the longest life's."""
    found: dict[Bound, Verdict] = {}
    for verdict in verdicts:
        known = found.get(verdict.bound)
        if known is None or (verdict.is_flat, -verdict.seconds) < (known.is_flat, -known.seconds):
            found[verdict.bound] = verdict
    return list(found.values())
