"""What a caller says of a draw: the sampling parameters, and rows that are no array.

Rule 1: None (or absence) means the server's default, so nothing is sent. Rule 2: the server checks the ranges, and
names the field in its answer. Meanings and ranges are those of the contract, samplerd/v1/sampler.proto.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client.arrays import ArrayLike, as_rows
from samplerd_client.parameter_kinds import Ids, Order, fill, integers
from samplerd_client.sampling_params import SETTERS, Dry, SamplingParams

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = [
    "DTYPES",
    "FIELD_NAMES",
    "Candidates",
    "CudaSharedMemory",
    "Dry",
    "Ids",
    "LogprobKind",
    "Order",
    "SamplingParams",
    "SharedMemory",
    "integers",
    "kind_number",
    "params_message",
    "put_shared",
]

LogprobKind: TypeAlias = Literal["raw", "scaled", "processed"]
"""The row as sent; after guidance, mask, bias, penalties, temperature and smoothing; or what is drawn from."""

_KINDS = {
    "raw": pb.LOGPROB_KIND_RAW,
    "scaled": pb.LOGPROB_KIND_SCALED,
    "processed": pb.LOGPROB_KIND_PROCESSED,
}

DTYPES = {"f32": pb.DTYPE_F32, "f16": pb.DTYPE_F16, "bf16": pb.DTYPE_BF16, "f64": pb.DTYPE_F64}
"""The contract's number of each dtype, by name."""


FIELD_NAMES = tuple(SETTERS)
"""The fields of SamplingParams, here and in the contract."""


def kind_number(kind: str) -> pb.LogprobKind.ValueType:
    """Return the proto's number of "raw", "scaled" or "processed"; ValueError for anything else."""
    if kind not in _KINDS:
        raise ValueError(f"a kind of log-probability is one of {', '.join(_KINDS)}; got {kind!r}")
    return _KINDS[kind]


def params_message(values: Mapping[str, Any]) -> pb.SamplingParams:
    """Return the message with these fields of SamplingParams; None leaves a field unset.

    Raises:
        TypeError, ValueError: a field cannot hold its value; the text begins with the field's name.

    """
    return fill(pb.SamplingParams(), values, SETTERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Sparse rows: the most likely categories of each row, and one number for the weight of all others."""

    ids: Sequence[Ids]
    """For each row the ids of its candidates: distinct, in [0, vocab_size)."""
    logits: Sequence[Sequence[float] | NDArray[Any]]
    """Their logits (or weights), in the same order."""
    rest_logsumexp: Sequence[float] | NDArray[Any] | None = None
    """For each row ln(sum of exp(logit)) over the categories that are not sent; None = there are none."""
    vocab_size: int
    """Size of the whole vocabulary."""

    @classmethod
    def from_logits(cls, logits: ArrayLike, k: int) -> Candidates:
        """Return the k most likely of each row of logits[B, V], and the exact weight of the rest.

        Raises:
            TypeError, ValueError: they are no rows, as for `sample`.

        """
        packed = as_rows(logits, "f32")
        vocab_size = packed.vocab_size
        rows = np.frombuffer(packed.data, dtype="<f4").reshape(packed.rows, vocab_size)
        count = min(k, vocab_size)
        order = np.argpartition(-rows, count - 1, axis=1)
        ids, others = order[:, :count], order[:, count:]
        rest = np.take_along_axis(rows, others, axis=1).astype(np.float64)
        if rest.shape[1]:
            top = np.max(rest, axis=1, keepdims=True)
            base = np.where(np.isfinite(top), top, 0.0)
            with np.errstate(divide="ignore"):
                tail = np.log(np.exp(rest - base).sum(axis=1)) + base[:, 0]
        else:
            tail = np.full(len(rows), -np.inf)
        return cls(
            ids=list(ids),
            logits=list(np.take_along_axis(rows, ids, axis=1)),
            rest_logsumexp=tail,
            vocab_size=vocab_size,
        )

    def to_proto(self) -> pb.Candidates:
        """Return the message; ValueError when the lists differ in length."""
        if (
            not len(self.ids)
            == len(self.logits)
            == len(self.ids if self.rest_logsumexp is None else self.rest_logsumexp)
        ):
            raise ValueError("candidates: ids, logits and rest_logsumexp must have one entry for each row")
        message = pb.Candidates(vocab_size=self.vocab_size)
        for index, (ids, logits) in enumerate(zip(self.ids, self.logits, strict=True)):
            numbers = logits.tolist() if isinstance(logits, np.ndarray) else logits
            row = message.row.add(ids=integers(ids), logits=numbers)
            if self.rest_logsumexp is not None:
                row.rest_logsumexp = float(self.rest_logsumexp[index])
        return message


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedMemory:
    """Rows in a shared-memory region on the server's host. `SharedMemoryRegion` can make one."""

    key: str
    """Name of the POSIX shared-memory region."""
    rows: int
    vocab_size: int
    offset: int = 0
    """Where the rows begin in the region, in bytes."""
    dtype: Literal["f32", "f16", "bf16", "f64"] = "f32"

    def to_proto(self) -> pb.SharedMemory:
        """Return the message."""
        itemsize = {"f32": 4, "f64": 8}.get(self.dtype, 2)
        return pb.SharedMemory(
            key=self.key,
            offset=self.offset,
            byte_size=self.rows * self.vocab_size * itemsize,
            dtype=DTYPES[self.dtype],
            rows=self.rows,
            vocab_size=self.vocab_size,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaSharedMemory:
    """Rows in memory of a CUDA device that is registered with the server, by the Open Inference Protocol's RPC.

    They must be complete before the call, and stay as they are until the reply.
    """

    region: str
    """Name under which the memory is registered."""
    rows: int
    vocab_size: int
    offset: int = 0
    """Where the rows begin in the region, in bytes."""
    dtype: Literal["f32", "f16", "bf16", "f64"] = "f32"

    def to_proto(self) -> pb.CudaSharedMemory:
        """Return the message."""
        itemsize = {"f32": 4, "f64": 8}.get(self.dtype, 2)
        return pb.CudaSharedMemory(
            region=self.region,
            offset=self.offset,
            byte_size=self.rows * self.vocab_size * itemsize,
            dtype=DTYPES[self.dtype],
            rows=self.rows,
            vocab_size=self.vocab_size,
        )


def put_shared(message: pb.SampleRequest | pb.Guidance | pb.CreateDistributionRequest, memory: Any) -> None:
    """Set the source of a message to rows in shared memory, of the host or of a CUDA device.

    Raises:
        TypeError: it is no such rows.

    """
    if not hasattr(memory, "to_proto"):
        raise TypeError(
            f"shared_memory: expected SharedMemory, a Slot or CudaSharedMemory, got {type(memory).__name__}; give a "
            "tensor on a CUDA device as the first argument, or as the guidance"
        )
    own = memory.to_proto()
    if isinstance(own, pb.CudaSharedMemory):
        message.cuda_shared_memory.CopyFrom(own)
    else:
        message.shared_memory.CopyFrom(own)
