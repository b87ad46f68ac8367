"""Rows of the table of metrics that are read at a scrape, and of which each worker has a series of its own."""

from __future__ import annotations

from typing import TypeVar

from samplerd_server.metrics import labels
from samplerd_server.metrics.definition import Merge, metric
from samplerd_server.metrics.instruments import Counter, Gauge

__all__ = ["worker_metric"]

_I = TypeVar("_I", Counter, Gauge)


def worker_metric(kind: type[_I], help: str, unit: str = "") -> _I:  # noqa: A002  # Prometheus' own word
    """Make a row: its instrument, what the number says, and what is counted."""
    return metric(kind, help, unit=unit, labels=(labels.WORKER,), merge=Merge.PER_WORKER, set_by="app/gauges.py")
