"""What was checked of a message, for the next ones that differ from it in their id, seed and numbers only.

A client sends many messages of one kind: the same parameters, the same shape. What the checks and the price depend on
is then the same, and only the length of the numbers is left to check.

Rule 1: only messages that the scan knows whole are remembered, with a tensor, without outputs and without draw_offset,
which differs from one request to the next. Rule 2: clients choose what is remembered, so it is bounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from samplerd_server.core.buffers import address_of
from samplerd_server.core.request import SampleRequest
from samplerd_server.core.rows import DenseRows
from samplerd_server.transport.codec.fresh_seed import fresh_seed

if TYPE_CHECKING:
    from samplerd_server.transport.codec.scanned import Scanned

__all__ = ["KnownRequests"]

_MAX_KNOWN = 1024
_MAX_PARAMS_BYTES = 128
"""The most bytes of parameters that are remembered: scalars, not lists of ids."""
_Kind = tuple[bytes | None, int, int, int, int, int, int, int, int]


class KnownRequests:
    """The kinds of messages that were checked."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[_Kind | None, tuple[int, SampleRequest]] = {}
        """By kind: the bytes of the numbers, and a request without numbers."""

    def __len__(self) -> int:
        """Count the kinds that are remembered."""
        return len(self._known)

    @staticmethod
    def kind_of(data: bytes, found: Scanned) -> _Kind | None:
        """Give what the checks of a message depend on, but the length of its numbers; None = it is not remembered."""
        if not found.is_simple or found.is_shared or found.outputs_at:
            return None
        begin, end = found.params_at, found.params_end
        return (
            data[begin:end] if begin else None,
            found.num_samples,
            found.replacement,
            found.kind,
            found.draw_offset,
            found.priority,
            found.dtype,
            found.rows,
            found.vocab_size,
        )

    def find(self, data: bytes, found: Scanned, kind: _Kind | None) -> SampleRequest | None:
        """Give the request of a message of this kind; None = it must be checked."""
        known = self._known.get(kind)
        if known is None:
            return None
        size, like = known
        begin, end = found.data_at, found.data_end
        if end - begin != size:
            return None
        rows = like.source
        source = DenseRows(
            dtype=rows.dtype,  # type: ignore[union-attr]  # rows of a tensor, by rule 1
            rows=rows.rows,
            vocab_size=rows.vocab_size,
            data=memoryview(data)[begin:end],
            address=address_of(data) + begin,
        )
        return SampleRequest(
            id=found.id,
            source=source,
            params=like.params,
            num_samples=like.num_samples,
            with_replacement=like.with_replacement,
            kind=like.kind,
            seed=found.seed if found.has_seed else fresh_seed(),
            priority=like.priority,
            greedy_rows=like.greedy_rows,
            work=like.work,
        )

    def like(self, kind: object) -> tuple[int, SampleRequest] | None:
        """Give the bytes of the numbers and a request without numbers of a kind; None = it is not known."""
        return self._known.get(kind)  # type: ignore[call-overload,no-any-return]  # whatever `kind_of` gave

    def remember(self, kind: _Kind | None, request: SampleRequest) -> None:
        """Remember a message of this kind, whose request this is."""
        source: Any = request.source
        if kind is None or request.draw_offset or len(kind[0] or b"") > _MAX_PARAMS_BYTES:
            return
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        empty = DenseRows(dtype=source.dtype, rows=source.rows, vocab_size=source.vocab_size, data=b"")
        like = SampleRequest(
            id=0,
            source=empty,
            params=request.params,
            num_samples=request.num_samples,
            with_replacement=request.with_replacement,
            kind=request.kind,
            priority=request.priority,
            greedy_rows=request.greedy_rows,
            work=request.work,
        )
        self._known[kind] = source.size_bytes, like
