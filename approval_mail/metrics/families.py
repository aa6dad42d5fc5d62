"""What a metric is: a value that is seen, a counter or a histogram of the store; each makes its family of samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from approval_mail.overview import Overview
from approval_mail.store.counters import bucket

_MILLISECONDS = 1000


@dataclass(frozen=True, slots=True)
class Seen:
    """What all metrics of one scrape are read from."""

    overview: Overview
    #: What `EventStore.counters` answers.
    counters: Mapping[tuple[str, ...], int]
    #: Seconds: NOTIFICATION_BATCH_TIMEOUT.
    batch_timeout: float
    #: When it was seen; aware.
    at: datetime


@dataclass(frozen=True, slots=True)
class Gauge:
    """A value that goes up and down."""

    name: str
    help: str
    value: Callable[[Seen], float]

    def family(self, seen: Seen) -> Metric:
        return GaugeMetricFamily(self.name, self.help, value=float(self.value(seen)))


@dataclass(frozen=True, slots=True)
class Gauges:
    """Several values under one name, told apart by a label."""

    name: str
    help: str
    label: str
    values: Callable[[Seen], Mapping[str, float]]

    def family(self, seen: Seen) -> Metric:
        family = GaugeMetricFamily(self.name, self.help, labels=(self.label,))
        for label, value in self.values(seen).items():
            family.add_metric((label,), float(value))
        return family


@dataclass(frozen=True, slots=True)
class Counter:
    """A counter of the store, which only ever grows."""

    name: str
    help: str
    #: Its name in the store.
    counter: str
    labels: tuple[str, ...] = ()
    #: Label values that are there, with 0, before anything was counted under them.
    known: Sequence[tuple[str, ...]] = ()

    def family(self, seen: Seen) -> Metric:
        found = dict.fromkeys(self.known if self.labels else ((),), 0)
        for (name, *labels), count in seen.counters.items():
            if name == self.counter and len(labels) == len(self.labels):
                found[tuple(labels)] = count
        family = CounterMetricFamily(self.name, self.help, labels=self.labels)
        for values, count in found.items():
            family.add_metric(values, count)
        return family


@dataclass(frozen=True, slots=True)
class Histogram:
    """A histogram of the store: a counter for each bucket, and one with the sum in milliseconds."""

    name: str
    help: str
    #: Its name in the store; that of the sum ends in ``_ms``.
    counter: str
    #: Seconds. The buckets' upper bounds.
    bounds: Sequence[float]

    def family(self, seen: Seen) -> Metric:
        buckets, below = [], 0
        for bound in self.bounds:
            below += seen.counters.get((self.counter, bucket(bound, self.bounds)), 0)
            # As Prometheus itself writes numbers here: "1.0", never "1".
            buckets.append((str(float(bound)), float(below)))
        # Also what was counted under bounds that are no longer in use.
        every = sum(count for key, count in seen.counters.items() if key[0] == self.counter)
        buckets.append(("+Inf", float(every)))
        seconds = seen.counters.get((f"{self.counter}_ms",), 0) / _MILLISECONDS
        return HistogramMetricFamily(self.name, self.help, buckets=buckets, sum_value=seconds)
