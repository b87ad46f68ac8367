"""The merged metrics as Prometheus' collector: what the supervisor's /metrics shows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from samplerd_server.metrics.snapshot import Family
    from samplerd_server.process.workers.aggregator import MetricsAggregator

__all__ = ["Merged"]

_LOOP_S = 5.0
"""The census answers within a second; more means that the supervisor's event loop stands still, or ends."""


class Merged(Collector):
    """Everything that all workers have counted. `collect` runs on the exporter's thread, the census on the loop."""

    def __init__(self, census: MetricsAggregator, loop: asyncio.AbstractEventLoop) -> None:
        self._census = census
        self._loop = loop

    def collect(self) -> Iterator[Metric]:
        """Ask all workers, and give the sums to prometheus_client.

        Raises:
            TimeoutError: the event loop did not answer.

        """
        taking = asyncio.run_coroutine_threadsafe(self._census.take(), self._loop)
        try:
            families = taking.result(_LOOP_S)
        finally:
            taking.cancel()
        yield from map(_metric, families)


def _metric(family: Family) -> Metric:
    metric = Metric(family.name, family.help, family.kind)
    for (name, labels), value in family.samples.items():
        metric.add_sample(name, dict(labels), value)
    return metric
