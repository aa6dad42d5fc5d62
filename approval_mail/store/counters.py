"""What the store counts for good: the names of its counters, and the bounds of its two histograms."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

#: Seconds. Upper bounds of the time from an event to the 250 that accepts a mail about it.
DELIVERY_BOUNDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
#: Seconds. Upper bounds of the time that one mail's SMTP transaction takes.
SMTP_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
#: What lies above all bounds.
ABOVE = "+Inf"
#: Stands between the parts of a counter's name.
_SEPARATOR = "\t"


def field(name: str, *labels: str) -> str:
    """A counter's field in the hash that holds them all."""
    return _SEPARATOR.join((name, *labels))


def parts(field: str) -> tuple[str, ...]:
    """The name and labels of a counter's field."""
    return tuple(field.split(_SEPARATOR))


def bucket(seconds: float, bounds: Sequence[float]) -> str:
    """The label of the histogram's bucket that ``seconds`` fall into: its upper bound."""
    at = bisect_left(bounds, seconds)
    return f"{bounds[at]:g}" if at < len(bounds) else ABOVE
