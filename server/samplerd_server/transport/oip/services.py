"""The objects that answer the RPCs of the Open Inference Protocol, which share the registered regions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplerd_server.transport.oip.management import ManagementService
from samplerd_server.transport.oip.regions import Regions
from samplerd_server.transport.oip.registry import SharedMemoryRegistry
from samplerd_server.transport.oip.service import InferenceService

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from samplerd_server.core.drawn import Drawn
    from samplerd_server.metrics.metrics import Metrics
    from samplerd_server.transport.codec.decode import Decoder
    from samplerd_server.transport.rpc.streams import Streams
    from samplerd_server.transport.rpc.submitter import Submitter
    from samplerd_server.transport.shared_memory.cuda_regions import CudaRegions

__all__ = ["OPEN_INFERENCE", "open_inference"]

OPEN_INFERENCE = (InferenceService, ManagementService)
"""The classes that answer the RPCs."""


def open_inference(
    *,
    decoder: Decoder,
    submitter: Submitter,
    streams: Streams,
    cuda_regions: CudaRegions,
    metrics: Metrics,
    drawn: Callable[[], Awaitable[Drawn]],
) -> tuple[InferenceService, ManagementService]:
    """Build them; `drawn` gives what was drawn since the start."""
    registry = Regions(None if decoder.regions is None else SharedMemoryRegistry(decoder.regions), cuda_regions)
    inference = InferenceService(
        decoder=decoder,
        submitter=submitter,
        streams=streams,
        regions=registry,
        max_rows=decoder.limits.max_rows,
        metrics=metrics,
        drawn=drawn,
    )
    return inference, ManagementService(submitter=submitter, regions=registry)
