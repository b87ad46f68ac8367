"""The device memory of this process that a client has registered with its server: a region for each allocation.

Rule 1: a region holds the storage of a tensor that lies in it, the last one that was sent, so that torch cannot free
the allocation as long as the server has it open. Rule 2: a region is unregistered when it was not used for a while,
when there are too many and others were used later, and when the client is closed; never while a request of this client
that names it waits for its reply, unless the client is closed. Rule 3: an allocation is known by its handle as well as
by its address, which CUDA gives to other memory later. Rule 4: names are random, so nobody else's region is ever meant.
On the event loop.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from samplerd.oip import grpc_service_pb2 as oip
from samplerd_client.errors import (
    AlreadyExistsError,
    ConnectionLostError,
    DeadlineError,
    NotImplementedFieldError,
    SamplerdError,
)
from samplerd_client.params import CudaSharedMemory

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from samplerd_client.device_rows import Allocation, DeviceRows
    from samplerd_client.retry import Deadline

__all__ = ["CudaRegions", "Region"]

_INFERENCE = "/inference.GRPCInferenceService/"
_MAX_REGIONS = 16
"""Each holds the memory of one tensor. A loop that draws from fresh logits alternates between two or three."""
_IDLE_S = 30.0
"""Registering takes a round trip and the opening of a handle: far longer than a decode step, far less than this."""
_CLOSE_S = 2.0
"""A server that answers at all unregisters within milliseconds."""


class Region:
    """A registered allocation, or one that is being registered."""

    __slots__ = ("allocation", "ending", "is_retired", "name", "ready", "storage", "used_at_s", "users")

    def __init__(self, allocation: Allocation, storage: Any) -> None:
        self.allocation = allocation
        self.storage = storage
        """What keeps the allocation from being freed."""
        self.name = f"client-{secrets.token_hex(8)}"
        self.users = 0
        """Requests that name it and wait for their reply."""
        self.used_at_s = 0.0
        """When a request named it last, by the clock of the event loop."""
        self.is_retired = False
        """No further request is to name it."""
        self.ready: asyncio.Task[None] | None = None
        """The registering."""
        self.ending: asyncio.Task[None] | None = None
        """The unregistering."""

    def rows(self, rows: DeviceRows) -> CudaSharedMemory:
        """Return what names rows of the allocation in a request."""
        return CudaSharedMemory(
            region=self.name, offset=rows.offset, rows=rows.rows, vocab_size=rows.vocab_size, dtype=rows.dtype
        )


class CudaRegions:
    """The regions of one client.

    Args:
        call: makes a unary call: the client's.
        why_not: why none can be registered; empty = they can.
        max_regions: how many are kept, unless more are in use at the same time.
        idle_s: seconds without use after which one is unregistered.

    """

    def __init__(
        self,
        call: Callable[..., Awaitable[Any]],
        *,
        why_not: str = "",
        max_regions: int = _MAX_REGIONS,
        idle_s: float = _IDLE_S,
    ) -> None:
        self._call = call
        self._why_not = why_not
        self._max_regions = max_regions
        self._idle_s = idle_s
        self._regions: OrderedDict[tuple[int, int, int], Region] = OrderedDict()
        """By device, address and size; the one that was used last is the last."""
        self._ending: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._is_closing = False

    def __len__(self) -> int:
        """Return how many are registered, or about to be."""
        return len(self._regions)

    async def acquire(self, rows: DeviceRows, deadline: Deadline) -> Region:
        """Return the region that rows lie in, registered; `release` ends its use.

        Raises:
            ValueError: this client can register none.
            ConnectionLostError: the client is being closed.
            NotImplementedFieldError: the server registers none; the message says what turns it on.
            SamplerdError: it cannot be registered, or not in time.

        """
        if self._why_not:
            raise ValueError(self._why_not)
        if self._is_closing:
            raise ConnectionLostError("the client was closed during the call")
        region = self._find(rows)
        region.users += 1
        try:
            await self._wait_until_ready(region, deadline)
        except BaseException:
            self.release(region)
            raise
        return region

    def release(self, region: Region) -> None:
        """End the use of a region by a request."""
        region.users -= 1
        region.used_at_s = asyncio.get_running_loop().time()
        if not region.is_retired:
            self._regions.move_to_end(region.allocation[:3])
        if region.users == 0 and region.is_retired:
            self._end(region)
        self._trim()
        if self._timer is None and self._regions:
            self._timer = asyncio.get_running_loop().call_later(self._idle_s, self._expire)

    def retire(self, region: Region) -> None:
        """Unregister a region as soon as no request uses it; requests after this one have another."""
        key = region.allocation[:3]
        if self._regions.get(key) is region:
            del self._regions[key]
        region.is_retired = True
        if region.users == 0:
            self._end(region)

    async def aclose(self) -> None:
        """Unregister all regions, used or not; gives up after a few seconds, and lets go of their memory."""
        self._is_closing = True
        try:
            for region in tuple(self._regions.values()):
                self.retire(region)
                self._end(region)
            if self._ending:
                _, late = await asyncio.wait(self._ending, timeout=_CLOSE_S)
                for task in late:
                    task.cancel()
        finally:
            self._is_closing = False
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _find(self, rows: DeviceRows) -> Region:
        key = rows.allocation[:3]
        region = self._regions.get(key)
        if region is not None and region.allocation.handle != rows.allocation.handle:
            self.retire(region)
            region = None
        if region is None:
            region = self._regions[key] = Region(rows.allocation, rows.storage)
            region.ready = asyncio.create_task(self._register(region), name="samplerd-register")
            region.ready.add_done_callback(_take_note)
        region.storage = rows.storage
        self._regions.move_to_end(key)
        return region

    async def _wait_until_ready(self, region: Region, deadline: Deadline) -> None:
        assert region.ready is not None, "a region that nobody registers. This is a bug."
        if not region.ready.done():
            await asyncio.wait({region.ready}, timeout=deadline.remaining_s())
        if not region.ready.done():
            raise DeadlineError("the time given to the call was over before its memory was registered")
        if region.ready.cancelled():
            raise ConnectionLostError("the client was closed during the call")
        region.ready.result()

    async def _register(self, region: Region) -> None:
        own = region.allocation
        request = oip.CudaSharedMemoryRegisterRequest(
            name=region.name, raw_handle=own.handle, device_id=own.device, byte_size=own.size
        )
        decode = oip.CudaSharedMemoryRegisterResponse.FromString
        try:
            await self._call(_INFERENCE + "CudaSharedMemoryRegister", request.SerializeToString(), decode, None)
        except AlreadyExistsError:
            pass  # an earlier attempt, whose reply was lost
        except NotImplementedFieldError as error:
            self.retire(region)
            raise _off(error) from error
        except BaseException:
            self.retire(region)
            raise

    def _end(self, region: Region) -> None:
        """Begin to unregister a region, once."""
        if region.ending is None:
            region.ending = asyncio.create_task(self._unregister(region), name="samplerd-unregister")
            self._ending.add(region.ending)
            region.ending.add_done_callback(self._ending.discard)

    async def _unregister(self, region: Region) -> None:
        """Unregister a region; its storage is held until the server has answered, or the calls are given up."""
        if region.ready is not None and not region.ready.done():
            await asyncio.wait({region.ready})
        request = oip.CudaSharedMemoryUnregisterRequest(name=region.name).SerializeToString()
        decode = oip.CudaSharedMemoryUnregisterResponse.FromString
        with suppress(SamplerdError):
            await self._call(_INFERENCE + "CudaSharedMemoryUnregister", request, decode, None)
        region.storage = None

    def _trim(self) -> None:
        """Retire the regions that were not used for longest, while there are too many."""
        for region in tuple(self._regions.values()):
            if len(self._regions) <= self._max_regions:
                return
            if region.users == 0:
                self.retire(region)

    def _expire(self) -> None:
        """Retire the regions that were not used for a while, and look again when the next one may be due."""
        self._timer = None
        loop = asyncio.get_running_loop()
        next_s = self._idle_s
        for region in tuple(self._regions.values()):
            left_s = self._idle_s if region.users else region.used_at_s + self._idle_s - loop.time()
            if left_s <= 0.0:
                self.retire(region)
            else:
                next_s = min(next_s, left_s)
        if self._regions:
            self._timer = loop.call_later(next_s, self._expire)


def _take_note(task: asyncio.Task[None]) -> None:
    """Look at the outcome of a registering for which nobody waits any more."""
    if not task.cancelled():
        task.exception()


def _off(error: NotImplementedFieldError) -> NotImplementedFieldError:
    own = NotImplementedFieldError(
        f"the server reads no rows in memory of a CUDA device: {error.message}. Start it with --device cuda and "
        "--cuda-shared-memory, or send the tensor by .cpu()",
        reason=error.reason,
    )
    own.name, own.request_id = error.name, error.request_id
    return own
