"""The table of what is read of clients' shared memory: of the host, and of a CUDA device."""

from __future__ import annotations

from dataclasses import dataclass

from samplerd_server.metrics import labels
from samplerd_server.metrics.card_table import CardTable
from samplerd_server.metrics.definition import metric
from samplerd_server.metrics.instruments import Counter, Gauge, Histogram

__all__ = ["SharedMemoryTable"]

_READER = "transport/shared_memory/reader.py"
_CUDA_REGIONS = "transport/shared_memory/cuda_regions.py"


@dataclass(init=False, eq=False, repr=False, slots=True)
class SharedMemoryTable(CardTable):
    """What is known of clients' shared memory."""

    shared_memory_bytes: Counter = metric(Counter, "Bytes of rows copied out of shared memory.", set_by=_READER)
    shared_memory_errors: Counter = metric(
        Counter,
        "Failed reads of shared memory, by status code.",
        unit="reads",
        labels=(labels.READ_CODE,),
        set_by=_READER,
    )
    shared_memory_read_seconds: Histogram = metric(
        Histogram,
        "Seconds taken to open a region of shared memory and to copy rows out of it.",
        buckets=labels.SECONDS,
        set_by=_READER,
    )
    shared_memory_idle_bytes: Gauge = metric(
        Gauge, "Bytes of free buffers kept for the next rows from shared memory.", set_by=_READER
    )
    cuda_shared_memory_bytes: Counter = metric(
        Counter, "Bytes of rows copied out of registered memory of a CUDA device.", set_by=_CUDA_REGIONS
    )
    cuda_shared_memory_errors: Counter = metric(
        Counter,
        "Failed copies out of or into registered memory of a CUDA device, by status code.",
        unit="copies",
        labels=(labels.CUDA_CODE,),
        set_by=_CUDA_REGIONS,
    )
    cuda_shared_memory_regions: Gauge = metric(
        Gauge, "Regions of memory of a CUDA device that are registered.", unit="regions", set_by=_CUDA_REGIONS
    )
    cuda_shared_memory_limit_regions: Gauge = metric(
        Gauge,
        "Most regions that may be registered at the same time; 0 = none can be.",
        unit="regions",
        set_by=_CUDA_REGIONS,
    )
    cuda_shared_memory_open_bytes: Gauge = metric(
        Gauge, "Bytes of the allocations that registered regions lie in, each counted once.", set_by=_CUDA_REGIONS
    )
    cuda_shared_memory_limit_bytes: Gauge = metric(
        Gauge, "Limit of samplerd_cuda_shared_memory_open_bytes; 0 = no region can be registered.", set_by=_CUDA_REGIONS
    )
    cuda_shared_memory_expired: Counter = metric(
        Counter,
        "Regions unregistered because no request had named them for long.",
        unit="regions",
        set_by=_CUDA_REGIONS,
    )
