"""The merged metrics as a source of a scrape: what the supervisor's /metrics shows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from samplerd_server.metrics.series import Snapshot
    from samplerd_server.process.workers.aggregator import MetricsAggregator

__all__ = ["MergedSource"]

_LOOP_S = 5.0
"""The aggregator answers within a second; more means that the supervisor's event loop is stuck or ending."""


class MergedSource:
    """What all workers have counted. `read` runs on the exporter's thread, the aggregator on the event loop."""

    def __init__(self, aggregator: MetricsAggregator, loop: asyncio.AbstractEventLoop) -> None:
        self._aggregator = aggregator
        self._loop = loop

    def read(self) -> Snapshot:
        """Ask all workers, and give the merged metrics.

        Raises:
            TimeoutError: the event loop did not answer.

        """
        asking = asyncio.run_coroutine_threadsafe(self._aggregator.take(), self._loop)
        try:
            return asking.result(_LOOP_S)
        finally:
            asking.cancel()
