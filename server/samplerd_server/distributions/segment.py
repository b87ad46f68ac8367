"""The memory of one distribution: what it is, its rows and its tables, one after the other in one piece.

::

    8 bytes: length of the description | description, JSON | rows | tables

Rule 1: every part begins at a line of the cache. Rule 2: nothing in it is an address, so it may as well be a file that
several processes map (see sampling/tables/maker.py). Rule 3: whoever opens one trusts it: only this module writes them.
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

__all__ = ["Description", "Opener", "Plan", "Segment", "open_segment", "size_of", "write_segment"]

_ALIGNMENT = 64
_LENGTH = np.dtype("<u8")


@entity
class Description:
    """What a distribution is, for people and for the next one who maps it."""

    name: str
    kind: InputKind
    dtype: Dtype
    """As stored: binary64 is kept as binary32."""
    rows: int
    vocab_size: int
    params: bytes | None
    """The parameters that were fixed at the upload, an encoded SamplingParams; None = they come with each request."""
    ttl_s: float
    """Freed when unused for so long; inf = never."""
    created: float
    """Seconds since 1970."""

    @property
    def rows_bytes(self) -> int:
        """Memory that the rows take."""
        return self.rows * self.vocab_size * self.dtype.itemsize


class Plan(Protocol):
    """Tables that are to be written: sampling.tables.maker.TablePlan."""

    size_bytes: int

    def write(self, memory: NDArray[np.uint8], at: int, rows_at: int, pitch: int, dtype: Dtype) -> None:
        """Write them."""
        ...


@entity
class Opener:
    """What a segment is opened with."""

    params: Callable[[Description], SamplingParams]
    """From a description with parameters to them; they were checked when it was made."""
    cdf_index: Callable[[NDArray[np.uint8], int, int], CdfIndex] | None
    """From memory, the offset of tables in it and the number of rows to what draws from them; None = nothing here
    does."""


class Segment:
    """A distribution that is open: its description, and its rows as requests take them."""

    __slots__ = ("description", "rows", "size_bytes")

    def __init__(self, description: Description, rows: StoredRows, size_bytes: int) -> None:
        self.description = description
        self.rows = rows
        self.size_bytes = size_bytes


def _layout(description: Description) -> tuple[bytes, int, int]:
    """Give the encoded description, and where rows and tables begin."""
    fields: dict[str, Any] = asdict(description)
    fields["ttl_s"] = None if math.isinf(description.ttl_s) else description.ttl_s
    fields["params"] = None if description.params is None else base64.b64encode(description.params).decode()
    head = json.dumps(fields).encode()
    # What the parameters take once they are decoded is counted, too.
    rows_at = _align(_LENGTH.itemsize + len(head) + 2 * len(description.params or b""))
    return head, rows_at, rows_at + _align(description.rows_bytes)


def size_of(description: Description, plan: Plan | None) -> int:
    """Memory that a distribution takes, in bytes."""
    return _layout(description)[2] + (0 if plan is None else plan.size_bytes)


def write_segment(memory: NDArray[np.uint8], description: Description, source: DenseRows, plan: Plan | None) -> None:
    """Fill memory of `size_of` bytes; the rows are copied and, if binary64, rounded to binary32."""
    head, rows_at, tables_at = _layout(description)
    memory[: _LENGTH.itemsize].view(_LENGTH)[0] = len(head)
    memory[_LENGTH.itemsize : _LENGTH.itemsize + len(head)] = np.frombuffer(head, np.uint8)
    rows = memory[rows_at : rows_at + description.rows_bytes]
    if source.dtype is Dtype.F64:
        rows.view("<f4")[:] = np.frombuffer(source.data, "<f8")
    else:
        rows[:] = np.frombuffer(source.data, np.uint8)
    if plan is not None:
        pitch = description.vocab_size * description.dtype.itemsize
        plan.write(memory, tables_at, rows_at, pitch, description.dtype)


def open_segment(memory: NDArray[np.uint8], opener: Opener) -> Segment:
    """Read what `write_segment` wrote; what it gives keeps the memory alive."""
    length = int(memory[: _LENGTH.itemsize].view(_LENGTH)[0])
    fields = json.loads(memory[_LENGTH.itemsize : _LENGTH.itemsize + length].tobytes())
    fields["ttl_s"] = math.inf if fields["ttl_s"] is None else fields["ttl_s"]
    fields["params"] = None if fields["params"] is None else base64.b64decode(fields["params"])
    fields["kind"], fields["dtype"] = InputKind(fields["kind"]), Dtype(fields["dtype"])
    description = Description(**fields)
    _, rows_at, tables_at = _layout(description)
    cdf_index = None
    if opener.cdf_index is not None and len(memory) > tables_at:
        cdf_index = opener.cdf_index(memory, tables_at, description.rows)
    numbers = memory[rows_at : rows_at + description.rows_bytes]
    rows = StoredRows(
        name=description.name,
        kind=description.kind,
        dtype=description.dtype,
        rows=description.rows,
        vocab_size=description.vocab_size,
        data=numbers.data,
        address=address_of(numbers),
        params=None if description.params is None else opener.params(description),
        cdf_index=cdf_index,
    )
    return Segment(description, rows, len(memory))


def _align(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
