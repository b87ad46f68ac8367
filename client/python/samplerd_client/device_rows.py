"""Rows in a tensor of torch that is on a CUDA device, as the server must be told of them.

Rule 1: torch is not imported; a tensor on a device brings it. Rule 2: nothing is copied, to the host or on the device:
what cannot be read where it lies is refused. Rule 3: a tensor is captured on the thread that gives it to the client,
since torch's current stream is the thread's own: what that stream still has to do then is what the server must not
overtake. Rule 4: rows hold the storage of their tensor, so torch cannot free it under a request.
"""

from __future__ import annotations

import asyncio
import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, TypeAlias, cast

from samplerd_client import cuda_driver
from samplerd_client.arrays import dtype_number
from samplerd_client.params import DTYPES

if TYPE_CHECKING:
    from samplerd_client.arrays import ArrayLike
    from samplerd_client.options import SampleOptions

__all__ = ["Allocation", "DeviceRows", "capture", "capture_rows", "is_on_device"]

_Dtype: TypeAlias = Literal["f32", "f16", "bf16", "f64"]
_DTYPES: dict[str, _Dtype] = {
    "torch.float32": "f32",
    "torch.float16": "f16",
    "torch.bfloat16": "bf16",
    "torch.float64": "f64",
}


class Allocation(NamedTuple):
    """What CUDA allocated at once; torch carves many tensors out of it."""

    device: int
    """The number of the device, as this process counts."""
    begin: int
    """Its first address."""
    size: int
    """Its size in bytes."""
    handle: bytes
    """By which other processes open it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DeviceRows:
    """Rows on a CUDA device, with all that was to be asked on the thread of their caller."""

    is_cuda: ClassVar[bool] = True
    """As a tensor on a device has it."""
    allocation: Allocation
    offset: int
    """Where the rows begin in the allocation, in bytes."""
    rows: int
    vocab_size: int
    dtype: _Dtype
    storage: Any
    """The tensor's memory, which torch keeps as long as this refers to it."""
    written: Any
    """An event of CUDA: once it has passed, the rows are complete."""

    async def wait(self) -> None:
        """Wait until the rows are complete, without blocking the event loop."""
        if not self.written.query():
            await asyncio.to_thread(self.written.synchronize)


def is_on_device(rows: Any) -> bool:
    """Tell whether these rows are a tensor on a CUDA device, captured or not."""
    return bool(getattr(rows, "is_cuda", False))


def capture(logits: ArrayLike | None, options: SampleOptions) -> tuple[ArrayLike | None, SampleOptions]:
    """Return the arguments of a call with its tensors on a device captured; on the thread of its caller.

    Raises:
        TypeError, ValueError: a tensor that is no rows, or that cannot be read where it lies.
        CudaMemoryError: its memory cannot be shared.

    """
    dtype, guidance = options.get("dtype"), options.get("guidance")
    if is_on_device(guidance):
        try:
            captured = capture_rows(guidance, dtype)
        except (TypeError, ValueError) as error:
            raise type(error)(f"guidance: {error}") from error
        options = cast("SampleOptions", {**options, "guidance": captured})
    if is_on_device(logits):
        logits = cast("ArrayLike", capture_rows(logits, dtype))
    return logits, options


def capture_rows(tensor: Any, dtype: str | None) -> DeviceRows:
    """Return the rows of a tensor on a device: [V] (one row) or [B, V]; on the thread of their caller.

    Raises:
        TypeError, ValueError: it is no rows, or cannot be read where it lies.
        CudaMemoryError: its memory cannot be shared.

    """
    if isinstance(tensor, DeviceRows):
        return tensor
    kind = _check(tensor, dtype)
    rows, vocab_size = tensor.shape if tensor.dim() == 2 else (1, len(tensor))
    cuda, device = sys.modules["torch"].cuda, tensor.device
    with cuda.device(device):
        written = cuda.current_stream(device).record_event(cuda.Event(blocking=True))
        driver, address = cuda_driver.load_driver(), tensor.data_ptr()
        begin, size = driver.allocation(address)
        allocation = Allocation(device.index, begin, size, driver.handle(begin))
    return DeviceRows(
        allocation=allocation,
        offset=address - begin,
        rows=rows,
        vocab_size=vocab_size,
        dtype=kind,
        storage=tensor.untyped_storage(),
        written=written,
    )


def _check(tensor: Any, dtype: str | None) -> _Dtype:
    """Return the dtype of a tensor, if it is rows that can be read where they lie."""
    if str(tensor.layout) != "torch.strided":
        raise TypeError(f"expected a dense tensor, got the layout {tensor.layout}; send it by .to_dense()")
    kind = _DTYPES.get(str(tensor.dtype))
    if kind is None:
        raise TypeError(
            f"a tensor on a CUDA device must be float32, float16, bfloat16 or float64, got {tensor.dtype}; convert it "
            "there: tensor.float()"
        )
    if tensor.dim() not in {1, 2} or math.prod(tensor.shape) == 0:
        raise ValueError(f"expected [V] or [B, V] numbers, got a tensor of shape {tuple(tensor.shape)}")
    if tensor.requires_grad:
        raise ValueError("the tensor wants a gradient, which no draw has; give tensor.detach()")
    if tensor.is_neg() or not tensor.is_contiguous():
        raise ValueError(
            "the tensor is not contiguous, and a tensor on a CUDA device is read where it lies; copy it there: "
            "tensor.resolve_neg().contiguous()"
        )
    if dtype is not None and dtype_number(dtype) != DTYPES[kind]:
        raise ValueError(f"dtype: a tensor on a CUDA device is read as it is, {kind}; convert it there, not to {dtype}")
    return kind
