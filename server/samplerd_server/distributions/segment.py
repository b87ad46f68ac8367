"""A segment: the memory of one distribution, with its description, its rows and its CDF index in one block.

::

    8 bytes: length of the description | description, JSON | rows | CDF index

Rule 1: every part begins at a cache line. Rule 2: a segment holds no address, so it may be a file that several
processes map (sampling/cdf_index/builder.py). Rule 3: a segment is trusted when it is opened: only this module writes
one.
"""

from __future__ import annotations

import base64
import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from samplerd_server.core.buffers import address_of
from samplerd_server.core.entity import entity
from samplerd_server.core.enums import Dtype, InputKind
from samplerd_server.core.rows import StoredRows

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from samplerd_server.core.params import SamplingParams
    from samplerd_server.core.rows import CdfIndex, DenseRows

__all__ = ["CdfIndexPlan", "Description", "Segment", "SegmentDecoder", "open_segment", "size_of", "write_segment"]

_ALIGNMENT = 64
_LENGTH = np.dtype("<u8")


@entity
class Description:
    """The description of a distribution, as it is stored in its segment."""

    name: str
    kind: InputKind
    dtype: Dtype
    """As stored: binary64 is stored as binary32."""
    rows: int
    vocab_size: int
    params: bytes | None
    """The fixed parameters, an encoded SamplingParams; None = parameters come with each request."""
    ttl_s: float
    """Idle time after which the distribution is freed; inf = never."""
    created: float
    """Seconds since 1970."""

    @property
    def rows_bytes(self) -> int:
        """Bytes of the rows."""
        return self.rows * self.vocab_size * self.dtype.itemsize


class CdfIndexPlan(Protocol):
    """A CDF index that has been planned and can be written: CdfIndexPlan of sampling/cdf_index/builder.py."""

    size_bytes: int

    def write(self, memory: NDArray[np.uint8], at: int, rows_at: int, pitch: int, dtype: Dtype) -> None:
        """Write the CDF index at offset `at` of `memory`, for rows that begin at `rows_at`, `pitch` bytes apart."""
        ...


@entity
class SegmentDecoder:
    """The functions that read the parts of a segment."""

    params: Callable[[Description], SamplingParams]
    """Decodes the fixed parameters of a description; they were checked when it was uploaded."""
    cdf_index: Callable[[NDArray[np.uint8], int, int], CdfIndex] | None
    """Opens the CDF index at an offset of the memory, for a number of rows; None = this sampler has none."""
    note: Callable[[NDArray[np.uint8], NDArray[np.uint8]], None] | None = None
    """Is told of each open segment: its memory, and the rows within; None = this sampler keeps no rows on a card."""


class Segment:
    """An open segment: the description, and the rows as requests use them."""

    __slots__ = ("description", "rows", "size_bytes")

    def __init__(self, description: Description, rows: StoredRows, size_bytes: int) -> None:
        self.description = description
        self.rows = rows
        self.size_bytes = size_bytes


def _layout(description: Description) -> tuple[bytes, int, int]:
    """Give the encoded description, and the offsets of the rows and the CDF index."""
    fields: dict[str, Any] = asdict(description)
    fields["ttl_s"] = None if math.isinf(description.ttl_s) else description.ttl_s
    fields["params"] = None if description.params is None else base64.b64encode(description.params).decode()
    head = json.dumps(fields).encode()
    # Reserves as many bytes again for the decoded parameters, so that they are counted too.
    rows_at = _align(_LENGTH.itemsize + len(head) + 2 * len(description.params or b""))
    return head, rows_at, rows_at + _align(description.rows_bytes)


def size_of(description: Description, plan: CdfIndexPlan | None) -> int:
    """Give the bytes of a segment."""
    return _layout(description)[2] + (0 if plan is None else plan.size_bytes)


def write_segment(
    memory: NDArray[np.uint8], description: Description, source: DenseRows, plan: CdfIndexPlan | None
) -> None:
    """Write a segment into `size_of` bytes of memory; rows of binary64 are rounded to binary32."""
    head, rows_at, index_at = _layout(description)
    memory[: _LENGTH.itemsize].view(_LENGTH)[0] = len(head)
    memory[_LENGTH.itemsize : _LENGTH.itemsize + len(head)] = np.frombuffer(head, np.uint8)
    rows = memory[rows_at : rows_at + description.rows_bytes]
    if source.dtype is Dtype.F64:
        rows.view("<f4")[:] = np.frombuffer(source.data, "<f8")
    else:
        rows[:] = np.frombuffer(source.data, np.uint8)
    if plan is not None:
        pitch = description.vocab_size * description.dtype.itemsize
        plan.write(memory, index_at, rows_at, pitch, description.dtype)


def open_segment(memory: NDArray[np.uint8], decoder: SegmentDecoder) -> Segment:
    """Open what `write_segment` wrote; the segment keeps the memory alive."""
    length = int(memory[: _LENGTH.itemsize].view(_LENGTH)[0])
    fields = json.loads(memory[_LENGTH.itemsize : _LENGTH.itemsize + length].tobytes())
    fields["ttl_s"] = math.inf if fields["ttl_s"] is None else fields["ttl_s"]
    fields["params"] = None if fields["params"] is None else base64.b64decode(fields["params"])
    fields["kind"], fields["dtype"] = InputKind(fields["kind"]), Dtype(fields["dtype"])
    description = Description(**fields)
    _, rows_at, index_at = _layout(description)
    cdf_index = None
    if decoder.cdf_index is not None and len(memory) > index_at:
        cdf_index = decoder.cdf_index(memory, index_at, description.rows)
    numbers = memory[rows_at : rows_at + description.rows_bytes]
    if decoder.note is not None:
        decoder.note(memory, numbers)
    rows = StoredRows(
        name=description.name,
        kind=description.kind,
        dtype=description.dtype,
        rows=description.rows,
        vocab_size=description.vocab_size,
        data=numbers.data,
        address=address_of(numbers),
        params=None if description.params is None else decoder.params(description),
        cdf_index=cdf_index,
    )
    return Segment(description, rows, len(memory))


def _align(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
