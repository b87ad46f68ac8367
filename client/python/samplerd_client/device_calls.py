"""Calls whose rows, or guidance rows, are tensors on a CUDA device: registered where that is needed, and then named.

Rule 1: a call is what it would be with rows that its caller had registered: here tensors are replaced by their names,
and nothing else. Rule 2: regions are in use until the call has ended. Rule 3: a server that knows the region no more,
since it was started again, has them registered again, once for each call.
"""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

from samplerd_client.device_rows import DeviceRows, capture, is_on_device
from samplerd_client.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from samplerd_client.arrays import ArrayLike
    from samplerd_client.cuda_regions import CudaRegions, Region
    from samplerd_client.options import SampleOptions
    from samplerd_client.retry import Deadline

__all__ = ["call_with_names", "chunks_with_names", "has_device_rows"]

_T = TypeVar("_T")


class _Named:
    """The arguments of a call in which names stand for tensors."""

    def __init__(self, regions: CudaRegions, logits: ArrayLike | None, options: SampleOptions) -> None:
        self.logits = logits
        self.options = options
        self._regions = regions
        self._used: list[Region] = []

    async def replace(self, deadline: Deadline) -> None:
        """Register what is not, and put the names in place of the tensors."""
        rows, guidance = cast("Any", self.logits), cast("Any", self.options.get("guidance"))
        changed: dict[str, Any] = {}
        if isinstance(rows, DeviceRows):
            self.logits, changed["shared_memory"] = None, await self._name(rows, deadline)
        if isinstance(guidance, DeviceRows):
            changed["guidance"] = await self._name(guidance, deadline)
        self.options = cast("SampleOptions", {**self.options, **changed})

    async def _name(self, rows: DeviceRows, deadline: Deadline) -> Any:
        region = await self._regions.acquire(rows, deadline)
        self._used.append(region)
        await rows.wait()
        return region.rows(rows)

    def were_forgotten(self, error: NotFoundError) -> bool:
        """Tell whether the server knows a region no more; they are then registered anew by the next call."""
        is_one = any(region.name in error.message for region in self._used)
        for region in self._used if is_one else ():
            self._regions.retire(region)
        return is_one

    def release(self) -> None:
        """End the use of the regions."""
        while self._used:
            self._regions.release(self._used.pop())


def has_device_rows(logits: Any, options: SampleOptions) -> bool:
    """Tell whether the rows, or the guidance rows, of a call are a tensor on a CUDA device."""
    return is_on_device(logits) or ("guidance" in options and is_on_device(options["guidance"]))


@asynccontextmanager
async def _named(
    regions: CudaRegions, logits: ArrayLike | None, options: SampleOptions, deadline: Deadline
) -> AsyncIterator[_Named]:
    named = _Named(regions, logits, options)
    try:
        await named.replace(deadline)
        yield named
    finally:
        named.release()


async def call_with_names(
    call: Callable[..., Awaitable[_T]],
    regions: CudaRegions,
    logits: ArrayLike | None,
    options: SampleOptions,
    deadline: Deadline,
) -> _T:
    """Return the result of a call some of whose rows are on a device: `call` takes what `SamplerClient.sample` does.

    Raises:
        TypeError, ValueError: a tensor that is no rows, or cannot be read where it lies.
        CudaMemoryError: its memory cannot be shared.
        SamplerdError: what the call raises, or the registering.

    """
    _check(logits, options)
    logits, options = capture(logits, options)
    try:
        async with _named(regions, logits, options, deadline) as named:
            try:
                return await call(named.logits, timeout_s=deadline.remaining_s(), **named.options)
            except NotFoundError as error:
                if not named.were_forgotten(error):
                    raise
        async with _named(regions, logits, options, deadline) as named:
            return await call(named.logits, timeout_s=deadline.remaining_s(), **named.options)
    finally:
        del logits, options  # an error holds this frame, which would hold the tensor's memory


async def chunks_with_names(
    chunks: Callable[..., AsyncGenerator[_T, None]],
    regions: CudaRegions,
    logits: ArrayLike | None,
    options: SampleOptions,
    *,
    deadline: Deadline,
    timeout_s: float | None,
) -> AsyncGenerator[_T, None]:
    """Yield what a call yields some of whose rows are on a device; raises as `call_with_names`.

    The deadline is that of the registering, `timeout_s` what the call is given.
    """
    _check(logits, options)
    logits, options = capture(logits, options)
    for may_forget in (True, False):
        async with _named(regions, logits, options, deadline) as named:
            try:
                async with aclosing(chunks(named.logits, timeout_s=timeout_s, **named.options)) as source:
                    async for chunk in source:
                        may_forget = False  # noqa: PLW2901  # what has begun is not begun again
                        yield chunk
            except NotFoundError as error:
                if not (may_forget and named.were_forgotten(error)):
                    raise
            else:
                return


def _check(logits: Any, options: SampleOptions) -> None:
    """Refuse rows that are given twice, before `shared_memory` is where the names go."""
    if is_on_device(logits) and options.get("shared_memory") is not None:
        raise ValueError("give the rows exactly once: as the first argument, or as shared_memory")
