"""The merged metrics as Prometheus' collector: what the supervisor's /metrics shows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from samplerd_server.metrics.table import BY_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from samplerd_server.process.workers.aggregator import MetricsAggregator

__all__ = ["MergedCollector"]

_LOOP_S = 5.0
"""The aggregator answers within a second; more means that the supervisor's event loop is stuck or ending."""


class MergedCollector(Collector):
    """What all workers have counted. `collect` runs on the exporter's thread, the aggregator on the event loop."""

    def __init__(self, aggregator: MetricsAggregator, loop: asyncio.AbstractEventLoop) -> None:
        self._aggregator = aggregator
        self._loop = loop

    def collect(self) -> Iterator[Metric]:
        """Ask all workers, and give the merged metrics to prometheus_client.

        Raises:
            TimeoutError: the event loop did not answer.

        """
        asking = asyncio.run_coroutine_threadsafe(self._aggregator.take(), self._loop)
        try:
            merged = asking.result(_LOOP_S)
        finally:
            asking.cancel()
        for name, samples in merged.items():
            definition = BY_NAME[name]
            metric = Metric(name, definition.help, definition.type)
            for (sample, labels), value in samples.items():
                metric.add_sample(sample, dict(labels), value)
            yield metric
