"""What the system knows of a process: memory, processor time, open files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import ProcessCollector

from samplerd_server.metrics.table import PROCESS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.metrics_core import Metric

__all__ = ["ProcessMetrics"]

_NAMES = frozenset(row.name for row in PROCESS)


class ProcessMetrics(ProcessCollector):
    """The rows `PROCESS` of the table, read from /proc when somebody scrapes.

    Another release of prometheus_client may know more of a process; of that the table does not say how workers merge.
    """

    def __init__(self) -> None:
        super().__init__(registry=None)

    def collect(self) -> Iterable[Metric]:
        """Give the rows to prometheus_client. On the thread that scrapes."""
        return [family for family in super().collect() if family.name in _NAMES]
