"""The decoder of a process that takes requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplerd_server.transport.codec.compiled import compiled_scan
from samplerd_server.transport.codec.decode import Decoder

if TYPE_CHECKING:
    from samplerd_server.config import ServerConfig
    from samplerd_server.core.engine_facts import EngineFacts
    from samplerd_server.transport.shared_memory.cuda_regions import CudaRegions
    from samplerd_server.transport.shared_memory.reader import SharedMemoryReader

__all__ = ["make_decoder"]


def make_decoder(
    config: ServerConfig, facts: EngineFacts, *, regions: SharedMemoryReader | None, cuda_regions: CudaRegions
) -> Decoder:
    """Make it; regions and cuda_regions: the shared memory of the host and of a CUDA device that requests may name."""
    return Decoder(
        limits=config.limits,
        capabilities=facts.capabilities,
        scan=compiled_scan(),
        regions=regions,
        cuda_regions=cuda_regions,
    )
