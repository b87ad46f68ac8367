"""What holds rows that are not in a message: uploaded distributions, and regions of shared memory."""

from __future__ import annotations

import logging
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from samplerd_server.config import ENGINE
from samplerd_server.distributions.by_file import FileStore
from samplerd_server.distributions.folder import FolderStore
from samplerd_server.distributions.segment import SegmentDecoder
from samplerd_server.distributions.store import MemoryStore
from samplerd_server.transport.codec.by_distribution import decode_fixed_params
from samplerd_server.transport.shared_memory.cuda_regions import CudaRegions, RegionBounds
from samplerd_server.transport.shared_memory.reader import SharedMemoryReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from samplerd_server.config import ServerConfig
    from samplerd_server.distributions.store import Store
    from samplerd_server.engine.engine import Engine
    from samplerd_server.metrics.metrics import Metrics
    from samplerd_server.sampling.cdf_index.builder import CdfIndexBuilder
    from samplerd_server.sampling.sampler import NoteRows
    from samplerd_server.transport.codec.decode import Decoder
    from samplerd_server.transport.shared_memory.reader import Buffers

__all__ = ["make_cuda_regions", "make_regions", "make_store", "steady_time"]

_LOG = logging.getLogger("samplerd")
_EPOCH_S = time.time() - time.monotonic()


def steady_time(epoch_s: float = _EPOCH_S) -> float:
    """Give the seconds since 1970 as of the start of the server, and as many more as have passed: it never jumps.

    Args:
        epoch_s: the time at which the system's monotonic clock was 0, as it was known at the start, in seconds.

    """
    return epoch_s + time.monotonic()


def make_store(
    config: ServerConfig,
    *,
    builder: CdfIndexBuilder | None,
    decoder: Decoder,
    metrics: Metrics,
    note: NoteRows | None = None,
) -> Store:
    """Make the store of distributions; a worker's lies in the folder that all workers share.

    Args:
        config: that of the server.
        builder: opens CDF indexes; None = the sampler has none.
        decoder: decodes fixed parameters.
        metrics: count what happens to distributions.
        note: is told of the rows of each; None = the sampler keeps none on a card.

    """
    segment_decoder = SegmentDecoder(
        params=lambda description: decode_fixed_params(description, decoder),
        cdf_index=None if builder is None else builder.open,
        note=note,
    )
    make: Callable[..., Store] = MemoryStore
    clock: Callable[[], float] = steady_time
    if config.worker is not None and config.worker.distributions:
        make = partial(FileStore if config.worker.role == ENGINE else FolderStore, Path(config.worker.distributions))
        # Its files have times that other workers compare, also those that start after the system clock was set.
        clock = partial(steady_time, config.worker.epoch_s)
    return make(
        max_count=config.distributions.max_count,
        max_bytes=config.distributions.max_bytes,
        clock=clock,
        events=metrics.distribution_events,
        segment_decoder=segment_decoder,
    )


def make_regions(config: ServerConfig, metrics: Metrics, buffers: Buffers | None = None) -> SharedMemoryReader | None:
    """Make what reads shared memory, into these buffers, or into some of its own; None = the server takes none."""
    prefix = config.transport.shared_memory_prefix
    # The limit of a message: copying the rows then blocks the event loop no longer than receiving them would.
    limit = config.transport.max_message_bytes
    return SharedMemoryReader(prefix, max_bytes=limit, metrics=metrics, buffers=buffers) if prefix else None


def make_cuda_regions(config: ServerConfig, metrics: Metrics, engine: Engine | None) -> CudaRegions:
    """Make what registers memory of CUDA devices; engine: None = it is behind a door, or has doors."""
    why_off, memory = "", None if engine is None else engine.regions
    if not config.transport.cuda_shared_memory:
        why_off = "is off on this server; --cuda-shared-memory turns it on"
    elif engine is None:
        why_off = "is not served with --doors: a door has no card; use one process"
    elif config.worker is not None:
        why_off = "is not served with --workers: each worker would know only what was registered over its own "
        why_off += "connections; use one process, which is what one card wants"
    elif memory is None:
        why_off = f"works only on a CUDA device with --kernel cuda; this server draws on {engine.device.name} by "
        why_off += engine.sampler.name
    _warn_of_none(config, why_off)
    bounds = RegionBounds(
        config.transport.max_message_bytes,
        config.transport.cuda_shared_memory_bytes,
        config.transport.cuda_shared_memory_idle_s,
    )
    return CudaRegions(None if why_off else memory, why_off=why_off, bounds=bounds, metrics=metrics)


def _warn_of_none(config: ServerConfig, why_off: str) -> None:
    """Warn at the start, in one process only, that the setting has no effect."""
    worker = config.worker
    is_first = worker is None or (worker.index == 0 and worker.role != ENGINE)
    if config.transport.cuda_shared_memory and why_off and is_first:
        _LOG.warning("--cuda-shared-memory %s", why_off)
