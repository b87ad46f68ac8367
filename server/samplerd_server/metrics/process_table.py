"""The metrics of any process, which prometheus_client reads: the rows of the table of metrics for them."""

from __future__ import annotations

from samplerd_server.metrics.definition import Definition, Merge
from samplerd_server.metrics.instruments import Counter, Gauge

__all__ = ["PROCESS"]


def _of_process(
    name: str, text: str, unit: str = "", merge: Merge = Merge.SUM, kind: type[Counter | Gauge] = Gauge
) -> Definition:
    return Definition(
        kind=kind, help=text, unit=unit, merge=merge, set_by="metrics/process_metrics.py", attribute=f"process_{name}"
    )


PROCESS = (
    _of_process("virtual_memory_bytes", "Virtual memory size in bytes."),
    _of_process("resident_memory_bytes", "Resident memory size in bytes."),
    # The earliest is the supervisor's.
    _of_process("start_time_seconds", "Start time of the process since unix epoch in seconds.", merge=Merge.MIN),
    _of_process("cpu_seconds", "Total user and system CPU time spent in seconds.", kind=Counter),
    _of_process("open_fds", "Number of open file descriptors.", "file descriptors"),
    # Every process has the limit to itself.
    _of_process("max_fds", "Maximum number of open file descriptors.", "file descriptors", Merge.MIN),
)
"""What prometheus_client knows of a process, in its words."""
