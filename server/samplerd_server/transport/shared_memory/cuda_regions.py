"""Memory of CUDA devices that clients on the same host have registered under names of their choice.

Rule 1: rows are copied once, on the card, into memory of the server when their request is admitted, for the reason of
docs/design/0006-shared-memory-is-copied-once.md: nothing of a client changes under a kernel. Rule 2: an unregistered
region is closed once the copies out of it have run, so a request that was admitted keeps its rows, and one that was not
finds no region. Rule 3: how many there can be is bounded, and so are their bytes; a handle that has two names is
opened once, and counts once. Rule 4: a region that nobody names for long is unregistered: its owner may be dead.
Opening and closing take long and are done by a thread; everything else runs on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from samplerd_server.core.buffers import address_of
from samplerd_server.core.errors import (
    AlreadyExistsError,
    FullError,
    InvalidRequestError,
    NotFoundError,
    NotImplementedFieldError,
    SamplerdError,
    cut,
)
from samplerd_server.core.units import format_bytes, format_duration
from samplerd_server.transport.shared_memory.idle_regions import IdleRegions

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Mapping

    from samplerd_server.metrics.metrics import Metrics

__all__ = ["MAX_REGIONS", "CudaRegion", "CudaRegions", "DeviceMemory", "RegionBounds", "RegionsFullError"]

_LOG = logging.getLogger("samplerd")
MAX_REGIONS = 1024
"""Names that may be registered at the same time, as for regions of the host."""
_MAX_NAME = 255


class RegionsFullError(FullError):
    """Expected: there is no room for another region until one is unregistered."""

    reason = "REGIONS_FULL"


class DeviceMemory(Protocol):
    """The part of the engine that shares memory of a card with other processes: sampling.cuda.regions.CardRegions."""

    @property
    def index(self) -> int:
        """The number of the device, as this process counts."""
        ...

    @property
    def open_bytes(self) -> int:
        """How many bytes the regions that are open have, each counted once."""
        ...

    def open(self, handle: bytes, byte_size: int) -> int:
        """Open a region of at least so many bytes; returns its address."""
        ...

    def close(self, handle: bytes) -> None:
        """Close a region, if it was opened no more often, once the copies out of it have run."""
        ...

    def lease(self, size: int) -> memoryview:
        """Take device memory, whose address and lifetime alone are the host's; free when the last view is gone."""
        ...

    def copy(self, to: int, address: int, size: int, path: str) -> None:
        """Enqueue the copy of rows out of a region."""
        ...

    def fetch(self, to: int, address: int, size: int, path: str) -> None:
        """Copy bytes of a region to the host."""
        ...

    def write(self, address: int, data: bytes, path: str) -> None:
        """Write bytes to a region."""
        ...


class CudaRegion(NamedTuple):
    """A registered region."""

    handle: bytes
    device_id: int
    byte_size: int
    address: int = 0
    """Where it lies for this process; 0 = it is not open yet."""


class RegionBounds(NamedTuple):
    """What bounds regions."""

    request_bytes: int
    """Most bytes that one request may name, as many as a message may have."""
    open_bytes: int
    """Most bytes of all regions that are open at the same time."""
    idle_s: float
    """Seconds without use after which a region is unregistered; 0 = never."""


class CudaRegions:
    """The regions that are registered."""

    def __init__(self, memory: DeviceMemory | None, *, why_off: str, bounds: RegionBounds, metrics: Metrics) -> None:
        """Prepare it; memory: None = the server registers none, and `why_off` says why."""
        self._memory = memory
        self.why_off = why_off
        self.bounds = bounds
        self.max_bytes = bounds.request_bytes
        self._metrics = metrics
        self._idle = IdleRegions(bounds.idle_s, self._give_up)
        self._regions: dict[str, CudaRegion] = {}
        self._changing = asyncio.Lock()
        self._changes: set[asyncio.Task[None]] = set()

    @property
    def is_on(self) -> bool:
        """Whether regions can be registered."""
        return self._memory is not None

    @property
    def count(self) -> int:
        """How many are registered."""
        return len(self._regions)

    @property
    def open_bytes(self) -> int:
        """How many bytes of clients are open, each counted once."""
        return 0 if self._memory is None else self._memory.open_bytes

    def _check_on(self, path: str) -> DeviceMemory:
        if self._memory is None:
            raise NotImplementedFieldError(path, self.why_off)
        return self._memory

    async def register(self, name: str, region: CudaRegion, rpc: str) -> None:
        """Open a region, whose address is not known yet, and give it a name.

        Raises:
            NotImplementedFieldError: the server registers none.
            InvalidRequestError: a malformed name or handle, another device, a size that the memory does not have.
            AlreadyExistsError: the name is taken.
            RegionsFullError: there are too many.

        """
        memory = self._check_on(rpc)
        if not 1 <= len(name) <= _MAX_NAME:
            raise InvalidRequestError("name", f"must have 1 to {_MAX_NAME} characters")
        if region.device_id != memory.index:
            raise InvalidRequestError(
                "device_id", f"is {region.device_id}, but this server draws on device {memory.index}, as it counts them"
            )
        if region.byte_size < 1:
            raise InvalidRequestError("byte_size", "must be at least 1")
        await asyncio.shield(self._run(self._open(memory, name, region)))

    async def unregister(self, name: str) -> None:
        """Unregister one region, or all of them for an empty name. In the protocol a missing one is no error."""
        if self._memory is not None:
            await asyncio.shield(self._run(self._close(self._memory, name)))

    def _run(self, change: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Open or close to the end, even where the caller has gone meanwhile: no region stays open without a name."""
        task = asyncio.get_running_loop().create_task(change)
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        return task

    def _give_up(self, name: str) -> None:
        """Unregister a region that nobody has named for long."""
        assert self._memory is not None, "a region that is not open. This is a bug."
        self._metrics.cuda_shared_memory_expired.add(1)
        _LOG.info("a region of CUDA memory is unregistered, since no request has named it for long: %s", cut(name))
        self._run(self._close(self._memory, name, self._regions.get(name)))

    async def _open(self, memory: DeviceMemory, name: str, region: CudaRegion) -> None:
        async with self._changing:
            if name in self._regions:
                raise AlreadyExistsError(f"name: the region {name} is registered; unregister it first")
            if len(self._regions) >= MAX_REGIONS:
                raise RegionsFullError(f"{MAX_REGIONS} regions are registered, which is the most there can be")
            address = await asyncio.to_thread(memory.open, region.handle, region.byte_size)
            if memory.open_bytes > self.bounds.open_bytes:
                await asyncio.to_thread(memory.close, region.handle)
                limit = format_bytes(self.bounds.open_bytes)
                raise RegionsFullError(f"with it, more than {limit} of regions were open (--cuda-shared-memory-bytes)")
            self._regions[name] = region._replace(address=address)
            self._idle.use(name)

    async def _close(self, memory: DeviceMemory, name: str, only: CudaRegion | None = None) -> None:
        """Close one region, if it is still `only`, or all of them for an empty name."""
        async with self._changing:
            if only is not None and self._regions.get(name) is not only:
                return
            for own in [name] if name else list(self._regions):
                region = self._regions.pop(own, None)
                self._idle.forget(own)
                if region is not None:
                    await asyncio.to_thread(memory.close, region.handle)

    def has(self, name: str) -> bool:
        """Tell whether a region has this name."""
        return name in self._regions

    def status(self, name: str) -> Mapping[str, CudaRegion]:
        """List one region, or all of them for an empty name.

        Raises:
            NotFoundError: there is none of this name.

        """
        return {name: self._find(name, "name")} if name else self._regions

    def _find(self, name: str, path: str) -> CudaRegion:
        region = self._regions.get(name)
        if region is None:
            why = f", or no more: --cuda-shared-memory-idle {format_duration(self.bounds.idle_s)}"
            raise NotFoundError(
                f"{path}: no region of CUDA memory {cut(repr(name[:_MAX_NAME]))} is registered"
                + (why if self.bounds.idle_s else "")
            )
        return region

    def check(self, name: str, offset: int, byte_size: int, path: str) -> None:
        """Check that a request may name these bytes of a region; `path` is its field.

        Raises:
            NotImplementedFieldError: the server registers none.
            InvalidRequestError: they are not all within the region, or more than a request may name.
            NotFoundError: there is no region of this name.

        """
        self._check_on(path)
        whole = self._find(name, f"{path}.region").byte_size
        self._idle.use(name)
        if offset < 0 or offset > whole:
            raise InvalidRequestError(f"{path}.offset", f"{offset} is not within the region, {whole} bytes")
        if byte_size < 0 or offset + byte_size > whole:
            raise InvalidRequestError(
                f"{path}.byte_size", f"{byte_size} bytes from {offset} on are not within the region's {whole}"
            )

    def lease(self, size: int) -> memoryview:
        """Take device memory for rows; only its address and lifetime are the host's, and not its bytes.

        Raises:
            OverloadedError: too many rows wait for the card.

        """
        return self._check_on("lease").lease(size)

    def load(self, name: str, offset: int, into: memoryview, path: str, *, is_device: bool) -> None:
        """Copy `len(into)` bytes of a region; is_device: whether to leased memory, and not to the host's.

        Raises:
            NotFoundError: the region was unregistered meanwhile.
            InvalidRequestError: it was registered again, and is smaller.
            UnavailableError: the card could not copy.

        """
        size = len(into)
        with self._counting(size):
            memory = self._check_on(path)
            self.check(name, offset, size, path)
            address = self._regions[name].address + offset
            (memory.copy if is_device else memory.fetch)(address_of(into), address, size, path)

    def write(self, name: str, offset: int, room: int, data: bytes, path: str) -> None:
        """Write a result into the part of a region that the request names for it.

        Raises:
            InvalidRequestError: the result does not fit there.
            NotFoundError: the region was unregistered meanwhile.
            UnavailableError: the card could not copy.

        """
        if len(data) > room:
            raise InvalidRequestError(path, f"the result has {len(data)} bytes, but there is room for {room}")
        with self._counting(0):
            memory = self._check_on(path)
            self.check(name, offset, len(data), path)
            memory.write(self._regions[name].address + offset, data, path)

    @contextmanager
    def _counting(self, size: int) -> Iterator[None]:
        try:
            yield
        except SamplerdError as error:
            self._metrics.cuda_shared_memory_errors.add(1, error.code.name.lower())
            raise
        self._metrics.cuda_shared_memory_bytes.add(size)
