"""What the system knows of a process: memory, processor time, open files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import ProcessCollector

from samplerd_server.metrics.series import Family, Layout, Snapshot
from samplerd_server.metrics.table import PROCESS

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

__all__ = ["ProcessMetrics"]

_NAMES = frozenset(row.name for row in PROCESS)


class ProcessMetrics(ProcessCollector):
    """The rows `PROCESS` of the table, read from /proc when somebody scrapes.

    Another release of prometheus_client may know more of a process; of that the table does not say how workers merge.
    """

    def __init__(self) -> None:
        super().__init__(registry=None)
        self._layout = Layout(())

    def collect(self) -> list[Metric]:
        """Give the rows to prometheus_client. On the thread that scrapes."""
        return [family for family in super().collect() if family.name in _NAMES]

    def read(self) -> Snapshot:
        """Read the rows. On the thread that scrapes."""
        found = self.collect()
        families = tuple(
            Family(own.name, own.documentation, own.type, tuple((sample.name, ()) for sample in own.samples))
            for own in found
        )
        layout = self._layout
        if layout.families != families:
            layout = self._layout = Layout(families)
        return Snapshot(layout, [sample.value for own in found for sample in own.samples])
