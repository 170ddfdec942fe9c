"""What all workers count, as one page: each figure with the label `worker`, to be summed up by whoever reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

__all__ = ["Figures", "gather", "merged"]

#: One worker's figures, as JSON can carry them.
Figures = list[dict[str, Any]]


def gather(registry: CollectorRegistry) -> Figures:
    """What a registry has at this moment."""
    return [
        {
            "name": metric.name,
            "documentation": metric.documentation,
            "type": metric.type,
            "samples": [[sample.name, sample.labels, sample.value] for sample in metric.samples],
        }
        for metric in registry.collect()
    ]


def merged(figures: Mapping[str, Figures], starts: Mapping[str, int]) -> CollectorRegistry:
    """A registry that has all workers' figures, by the number of each, and how often each was started.

    A worker without figures did not answer: it is down, or does not turn.
    """
    registry = CollectorRegistry()
    registry.register(_Merged(figures, starts))
    return registry


class _Merged(Collector):
    def __init__(self, figures: Mapping[str, Figures], starts: Mapping[str, int]) -> None:
        self._figures = figures
        self._starts = starts

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("trio_chat_worker_up", "1 while the worker answers", labels=["worker"])
        starts = CounterMetricFamily("trio_chat_worker_starts", "How often it was started", labels=["worker"])
        for worker, count in self._starts.items():
            up.add_metric([worker], worker in self._figures)
            starts.add_metric([worker], count)
        yield up
        yield starts
        families: dict[str, Metric] = {}
        for worker, figures in self._figures.items():
            for each in figures:
                family = families.get(each["name"])
                if family is None:
                    family = Metric(each["name"], each["documentation"], each["type"])
                    families[each["name"]] = family
                for name, labels, value in each["samples"]:
                    family.samples.append(Sample(name, {"worker": worker, **labels}, value))
        yield from families.values()
