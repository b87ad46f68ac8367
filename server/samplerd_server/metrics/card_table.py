"""The table of what is read of a GPU at a scrape; without one on which samplerd's own kernels draw, no series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from samplerd_server.metrics.definition import Label, metric
from samplerd_server.metrics.instruments import Counter, Gauge

__all__ = ["CardTable"]

_I = TypeVar("_I", Counter, Gauge)
_DEVICE = Label("device", others="`cuda:N`; no series without a GPU on which samplerd's own kernels draw")


def _metric(
    kind: type[_I],
    help: str,  # noqa: A002  # Prometheus' own word
    unit: str = "",
    *,
    is_sensor: bool = False,
) -> _I:
    """Make a row.

    Args:
        kind: its instrument.
        help: what the number says.
        unit: what is counted.
        is_sensor: whether it is read by NVIDIA's management library, where that is installed.

    """
    set_by = "sampling/cuda/sensors.py" if is_sensor else "sampling/cuda/sampler.py"
    return metric(kind, help, unit=unit, labels=(_DEVICE,), set_by=set_by)


@dataclass(init=False, eq=False, repr=False, slots=True)
class CardTable:
    """What is known of a GPU."""

    device_memory_limit_bytes: Gauge = _metric(
        Gauge, "Memory of the GPU that samplerd took at the start: `--device-memory`."
    )
    device_memory_bytes: Gauge = _metric(
        Gauge, "Of that memory, bytes that batches and kept rows of distributions hold."
    )
    device_kept_bytes: Gauge = _metric(
        Gauge, "Bytes of rows of uploaded distributions that stay on the GPU once they were drawn from."
    )
    device_waiting_bytes: Gauge = _metric(
        Gauge, "Bytes of rows that were copied out of other processes' memory on the GPU and wait to be drawn."
    )
    device_locked_bytes: Gauge = _metric(
        Gauge, "Bytes of page-locked memory of the host that batches hold on their way."
    )
    device_batches: Gauge = _metric(Gauge, "Batches that the GPU has, or parts of them where one was split.", "batches")
    device_copies: Counter = _metric(Counter, "Copies from the host to the GPU.", "copies")
    device_copied_bytes: Counter = _metric(Counter, "Bytes copied from the host to the GPU.")
    device_launches: Counter = _metric(Counter, "Kernels launched on the GPU.", "launches")
    device_waits: Counter = _metric(Counter, "How often a thread has waited for the GPU: once for a batch.", "waits")
    device_lost: Gauge = _metric(
        Gauge, "1 once the GPU's context was lost: the CPU draws until the server is started again.", "0 or 1"
    )
    device_utilization_ratio: Gauge = _metric(
        Gauge, "Share of the time in which the GPU ran a kernel, of any process.", "ratio", is_sensor=True
    )
    device_power_watts: Gauge = _metric(Gauge, "Power that the GPU takes.", "watts", is_sensor=True)
    device_temperature_celsius: Gauge = _metric(
        Gauge, "Temperature of the GPU's die.", "degrees Celsius", is_sensor=True
    )
