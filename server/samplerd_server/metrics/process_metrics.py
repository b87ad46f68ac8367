"""What the system knows of a process: memory, processor time, open files."""

from __future__ import annotations

from prometheus_client import ProcessCollector

__all__ = ["ProcessMetrics"]


class ProcessMetrics(ProcessCollector):
    """The rows `PROCESS` of the table, read from /proc when somebody scrapes."""

    def __init__(self) -> None:
        super().__init__(registry=None)
