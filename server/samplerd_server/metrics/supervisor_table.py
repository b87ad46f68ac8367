"""The table of the metrics that the supervisor of workers adds; `table.py` says how such a table is read."""

from __future__ import annotations

from dataclasses import dataclass

from samplerd_server.metrics import labels
from samplerd_server.metrics.definition import Merge, metric
from samplerd_server.metrics.instruments import Counter, Gauge

__all__ = ["SupervisorTable"]

_AGGREGATOR = "process/workers/aggregator.py"


@dataclass(init=False, eq=False, repr=False, slots=True)
class SupervisorTable:
    """What the supervisor adds with `--workers` 2 or more, or with `--doors`."""

    worker_up: Gauge = metric(
        Gauge,
        "1 if the worker answered this scrape within a second, 0 if not.",
        labels=(labels.WORKER,),
        merge=Merge.PER_WORKER,
        set_by=_AGGREGATOR,
    )
    worker_restarts: Counter = metric(
        Counter,
        "Starts of the worker after its first one.",
        unit="starts",
        labels=(labels.WORKER,),
        merge=Merge.PER_WORKER,
        set_by=_AGGREGATOR,
    )
