"""The arrow from a request's source to its rows: lengths, shapes and limits, without looking at the numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.core.enums import Dtype
from samplerd_server.core.errors import InvalidRequestError, NotImplementedFieldError
from samplerd_server.core.rows import CandidateRow, CandidateRows, DenseRows

if TYPE_CHECKING:
    from samplerd_server.config import LimitsConfig
    from samplerd_server.core.entity import Buffer

__all__ = ["check_shape", "check_tensor", "decode_dtype", "decode_rows", "decode_tensor", "decode_values"]

_DTYPES = {0: Dtype.F32} | {int(dtype): dtype for dtype in Dtype}
_ITEMSIZES = {dtype: dtype.itemsize for dtype in Dtype}
_SOURCES = "tensor, values, candidates, distribution, shared_memory, cuda_shared_memory"


def decode_rows(
    message: pb.SampleRequest | pb.CreateDistributionRequest, limits: LimitsConfig, capabilities: frozenset[str]
) -> DenseRows | CandidateRows:
    """Find the rows that a message brings along.

    Raises:
        InvalidRequestError: no source, or a malformed one.
        NotImplementedFieldError: a source that does not work here.

    """
    source = message.WhichOneof("source")
    if source == "tensor":
        return decode_tensor(message.tensor, limits)
    if source is None:
        raise InvalidRequestError("source", f"no rows were sent; one of {_SOURCES} is needed")
    if source == "values":
        return decode_values(message.values, limits)
    if f"SampleRequest.{source}" not in capabilities:
        raise NotImplementedFieldError(source)
    assert isinstance(message, pb.SampleRequest), "an upload of candidates. This is a bug."
    return _decode_candidates(message.candidates, limits)


def decode_dtype(number: int, path: str) -> Dtype:
    """Give the dtype that has this number in the contract.

    Raises:
        InvalidRequestError: no dtype has it.

    """
    dtype = _DTYPES.get(int(number))
    if dtype is None:
        raise InvalidRequestError(path, f"{int(number)} is not a known Dtype")
    return dtype


def check_shape(rows: int, rows_path: str, vocab_size: int, vocab_path: str, limits: LimitsConfig) -> None:
    """Check that rows are neither empty nor beyond the limits; the paths name the fields of the two numbers.

    Raises:
        InvalidRequestError: they are empty or beyond a limit.

    """
    if vocab_size == 0:
        raise InvalidRequestError(vocab_path, "must be at least 1")
    if vocab_size > limits.max_vocab_size:
        raise InvalidRequestError(vocab_path, f"{vocab_size} is more than the limit of {limits.max_vocab_size}")
    if rows > limits.max_rows:
        raise InvalidRequestError(rows_path, f"{rows} rows are more than the limit of {limits.max_rows}")


def decode_tensor(tensor: pb.Tensor, limits: LimitsConfig, path: str = "tensor") -> DenseRows:
    """Check the rows of a Tensor; `path` names its field in the request.

    Raises:
        InvalidRequestError: an unknown dtype, a shape beyond the limits, or a wrong number of bytes.

    """
    return check_tensor(tensor.dtype, tensor.rows or 1, tensor.vocab_size, tensor.data, limits, path)


def check_tensor(  # noqa: PLR0917  # a Tensor's own fields, in order
    dtype: int,
    rows: int,
    vocab_size: int,
    data: Buffer,
    limits: LimitsConfig,
    path: str = "tensor",
    *,
    address: int = 0,
) -> DenseRows:
    """Check the fields of a Tensor; `address` is that of `data` in memory, 0 if it is not known.

    Raises:
        InvalidRequestError: an unknown dtype, a shape beyond the limits, or a wrong number of bytes.

    """
    stored = decode_dtype(dtype, f"{path}.dtype")
    if vocab_size == 0 or vocab_size > limits.max_vocab_size or rows > limits.max_rows:
        check_shape(rows, f"{path}.rows", vocab_size, f"{path}.vocab_size", limits)
    size = _ITEMSIZES[stored]
    if len(data) != rows * vocab_size * size:
        raise InvalidRequestError(
            f"{path}.data",
            f"{len(data)} bytes, but {rows} rows x {vocab_size} numbers x {size} bytes are {rows * vocab_size * size}",
        )
    return DenseRows(dtype=stored, rows=rows, vocab_size=vocab_size, data=data, address=address)


def decode_values(values: pb.Values, limits: LimitsConfig, path: str = "values") -> DenseRows:
    """Check rows that are written out; `path` names their field in the request.

    Raises:
        InvalidRequestError: there are none, one is empty or of another length, or a shape is beyond the limits.

    """
    rows = [np.array(row.values, "<f4") for row in values.row]
    if not rows:
        raise InvalidRequestError(f"{path}.row", "no rows were sent")
    vocab_size = len(rows[0])
    for at, row in enumerate(rows):
        if len(row) == 0:
            raise InvalidRequestError(f"{path}.row[{at}].values", "an empty row")
        if len(row) != vocab_size:
            raise InvalidRequestError(
                f"{path}.row[{at}].values", f"{len(row)} numbers, but the first row has {vocab_size}"
            )
    check_shape(len(rows), f"{path}.row", vocab_size, f"{path}.row[0].values", limits)
    return DenseRows(dtype=Dtype.F32, rows=len(rows), vocab_size=vocab_size, data=np.concatenate(rows).tobytes())


def _decode_candidates(candidates: pb.Candidates, limits: LimitsConfig) -> CandidateRows:
    if not candidates.row:
        raise InvalidRequestError("candidates.row", "no rows were sent")
    check_shape(len(candidates.row), "candidates.row", candidates.vocab_size, "candidates.vocab_size", limits)
    rows = tuple(
        _decode_candidate_row(row, f"candidates.row[{at}]", candidates.vocab_size)
        for at, row in enumerate(candidates.row)
    )
    return CandidateRows(vocab_size=candidates.vocab_size, candidates=rows)


def _decode_candidate_row(row: pb.Candidates.Row, path: str, vocab_size: int) -> CandidateRow:
    if not row.ids:
        raise InvalidRequestError(f"{path}.ids", "no candidates were sent")
    if len(row.ids) != len(row.logits):
        raise InvalidRequestError(f"{path}.logits", f"{len(row.logits)} logits for {len(row.ids)} ids")
    ids = np.array(row.ids, np.int32)
    outside = (ids < 0) | (ids >= vocab_size)
    if outside.any():
        at = int(outside.argmax())
        raise InvalidRequestError(f"{path}.ids[{at}]", f"{ids[at]} is not in [0, {vocab_size})")
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    if (ids[1:] == ids[:-1]).any():
        raise InvalidRequestError(f"{path}.ids", "the ids are not distinct")
    rest = row.rest_logsumexp if row.HasField("rest_logsumexp") else float("-inf")
    if np.isnan(rest) or rest == np.inf:
        raise InvalidRequestError(f"{path}.rest_logsumexp", f"{rest} is NaN or +inf")
    if rest > float("-inf") and len(ids) == vocab_size:
        raise InvalidRequestError(f"{path}.rest_logsumexp", "all categories were sent, so nothing is left for the rest")
    logits = np.array(row.logits, np.float32)[order]
    return CandidateRow(ids=ids, logits=logits, rest_logsumexp=rest)
