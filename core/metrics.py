"""Metrics in Prometheus' form, on a registry of our own.

The hot path touches plain integers of the event loop's thread: no locks, no label look-ups. Everything else is read
when somebody scrapes: a room keeps counters as plain attributes and wiring names them here as a source.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import Literal

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS_TYPE
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

#: What a source yields: label values by label name, and the number.
Sample = tuple[dict[str, str], float]

#: One sample as another process tells it: family, name, labels with their values, and the number.
Figure = tuple[str, str, tuple[tuple[str, str], ...], float]
_Key = tuple[str, tuple[tuple[str, str], ...]]

#: Upper bounds of the latency histogram in seconds.
LATENCY_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class _Series:
    """Counts of one operation and status."""

    __slots__ = ("buckets", "count", "received", "seconds", "sent")

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0
        self.received = 0
        self.sent = 0
        self.buckets = [0] * (len(LATENCY_BOUNDS) + 1)


class RequestMetrics(Collector):
    """Requests by operation and status: how many, how long, how many bytes. Belongs to the event loop's thread."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, int], _Series] = {}

    def observe(self, operation: str, status: int, seconds: float, received: int, sent: int) -> None:
        """Count one finished request; `received` and `sent` are body bytes on the wire."""
        series = self._series.get((operation, status))
        if series is None:
            series = self._series[(operation, status)] = _Series()
        series.count += 1
        series.seconds += seconds
        series.received += received
        series.sent += sent
        series.buckets[bisect_left(LATENCY_BOUNDS, seconds)] += 1

    def collect(self) -> Iterable[Metric]:
        labels = ["operation", "status"]
        duration = HistogramMetricFamily("atoll_request_seconds", "Time from headers to the last byte", labels=labels)
        received = CounterMetricFamily("atoll_request_received_bytes", "Body bytes received", labels=labels)
        sent = CounterMetricFamily("atoll_request_sent_bytes", "Body bytes sent", labels=labels)
        for (operation, status), series in self._series.items():
            values = [operation, str(status)]
            total = 0
            buckets: list[tuple[str, float]] = []
            for bound, count in zip((*map(str, LATENCY_BOUNDS), "+Inf"), series.buckets, strict=True):
                total += count
                buckets.append((bound, total))
            duration.add_metric(values, buckets, series.seconds)
            received.add_metric(values, series.received)
            sent.add_metric(values, series.sent)
        return (duration, received, sent)


class _Source(Collector):
    def __init__(
        self, name: str, documentation: str, kind: Literal["counter", "gauge"], read: Callable[[], Iterable[Sample]]
    ) -> None:
        self._name, self._documentation, self._read = name, documentation, read
        self._family = CounterMetricFamily if kind == "counter" else GaugeMetricFamily

    def describe(self) -> Iterable[Metric]:
        return (self._family(self._name, self._documentation),)

    def collect(self) -> Iterable[Metric]:
        samples = list(self._read())
        names = list(samples[0][0]) if samples else []
        family = self._family(self._name, self._documentation, labels=names)
        for labels, value in samples:
            family.add_metric([labels[name] for name in names], value)
        return (family,)


class Metrics:
    """The program's registry."""

    content_type = OPENMETRICS_TYPE

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self.requests = RequestMetrics()
        self._registry.register(self.requests)

    def source(
        self,
        name: str,
        documentation: str,
        *,
        kind: Literal["counter", "gauge"] = "counter",
        read: Callable[[], Iterable[Sample]],
    ) -> None:
        """Add a metric whose samples `read` gives at scrape time; all samples carry the same label names."""
        self._registry.register(_Source(name, documentation, kind, read))

    def figures(self) -> list[Figure]:
        """All metrics as plain figures, for `render` of another process."""
        return [
            (family.name, sample.name, tuple(sample.labels.items()), sample.value)
            for family in self._registry.collect()
            for sample in family.samples
        ]

    def render(self, others: Iterable[Figure] = ()) -> bytes:
        """All metrics in OpenMetrics text, which Prometheus reads, with the figures of other processes added up. Of
        families that this process does not have nothing is shown."""
        added: dict[str, dict[_Key, float]] = {}
        for family, name, labels, value in others:
            series = added.setdefault(family, {})
            series[name, labels] = series.get((name, labels), 0.0) + value
        return bytes(generate_openmetrics(_Sum(self._registry.collect(), added)))  # type: ignore[no-untyped-call]


class _Sum:
    """What a registry collected, with figures added."""

    def __init__(self, families: Iterable[Metric], added: dict[str, dict[_Key, float]]) -> None:
        self._families, self._added = families, added

    def collect(self) -> Iterable[Metric]:
        for family in self._families:
            more = self._added.get(family.name, {})
            for place, sample in enumerate(family.samples):
                key = (sample.name, tuple(sample.labels.items()))
                if key in more:
                    family.samples[place] = sample._replace(value=sample.value + more.pop(key))
            for (name, labels), value in more.items():
                family.add_sample(name, dict(labels), value)
            yield family
