"""The arrow ``bytes -> VerifyRequest``: the target becomes a `SampleRequest`, and the draft is checked beside it.

The numbers of a large request stay where they are in its bytes: parsing and copying 64 MiB would hold the event loop
for 30 ms.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.core.buffers import address_of
from samplerd_server.core.errors import InvalidRequestError
from samplerd_server.core.request import VerifyRequest
from samplerd_server.sampling.price import draft_work
from samplerd_server.transport.codec.check_request import Scalars, check_request, decode_row_params, decode_seed
from samplerd_server.transport.codec.decode_ids import decode_ids
from samplerd_server.transport.codec.decode_rows import check_tensor, decode_tensor
from samplerd_server.transport.codec.locate_tensor import locate_tensors
from samplerd_server.transport.codec.parse import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from samplerd_server.core.rows import DenseRows
    from samplerd_server.transport.codec.decode import Decoder

__all__ = ["DraftDecoder"]

_FIELDS = {"draft": 99, "target": 100}
_WORTH_LOCATING = 16 << 10
"""Bytes of a message from which on finding its tensors takes less time than copying them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftDecoder:
    """Decodes drafts within the limits and capabilities of this server."""

    samples: Decoder

    def decode_bytes(self, data: bytes) -> VerifyRequest:
        """Parse and check one request; the rows of a large one stay where they are in `data`.

        Raises what `decode` raises.
        """
        located = locate_tensors(data, _FIELDS.values()) if len(data) >= _WORTH_LOCATING else None
        if located is None:
            return self.decode(parse(pb.VerifyDraftRequest, data))
        rest, tensors = located
        begin = address_of(data)

        def rows_of(field: str) -> DenseRows | None:
            own = tensors.get(_FIELDS[field])
            if own is None:
                return None
            shape = parse(pb.Tensor, own.shape, part_of=pb.VerifyDraftRequest)
            return check_tensor(
                shape.dtype,
                shape.rows or 1,
                shape.vocab_size,
                memoryview(data)[own.data_at : own.data_end],
                self.samples.limits,
                field,
                address=begin + own.data_at,
            )

        return self._decode(parse(pb.VerifyDraftRequest, rest), rows_of)

    def decode(self, message: pb.VerifyDraftRequest) -> VerifyRequest:
        """Check one request.

        Raises:
            InvalidRequestError: a field is malformed, contradictory or out of range.
            NotImplementedFieldError: a field is used that does not work here.

        """

        def rows_of(field: str) -> DenseRows | None:
            if not message.HasField(field):  # type: ignore[arg-type]  # one of two names
                return None
            return decode_tensor(getattr(message, field), self.samples.limits, field)

        return self._decode(message, rows_of)

    def _decode(self, message: pb.VerifyDraftRequest, rows_of: Callable[[str], DenseRows | None]) -> VerifyRequest:
        """Check everything of a request; `rows_of` finds and checks the rows of one of its two tensors."""
        rows = rows_of("target")
        if rows is None:
            raise InvalidRequestError("target", "no rows were sent")
        limits = self.samples.limits
        context = self.samples.context(rows.vocab_size, takes_guidance=False)
        target = check_request(
            Scalars(id=message.id, kind=message.kind, draw_offset=message.draw_offset),
            rows,
            limits,
            params=decode_row_params(message, rows.rows, context),
            seed=decode_seed(message),
        )
        count = len(message.draft_ids)
        if count == 0:
            raise InvalidRequestError("draft_ids", "no drafted tokens were sent")
        if rows.rows != count + 1:
            raise InvalidRequestError(
                "target.rows", f"{rows.rows} rows for {count} drafted tokens; one more than tokens is needed"
            )
        ids = decode_ids(message.draft_ids, "draft_ids", context)
        assert ids is not None, "a list of ids was decoded as empty. This is a bug."
        parents = _decode_parents(message.parents, count)
        draft = _check_draft(rows_of("draft"), count, rows.vocab_size)
        more = draft_work(rows.rows * rows.vocab_size, 0 if draft is None else count * rows.vocab_size)
        return VerifyRequest(
            id=message.id,
            target=replace(target, work=target.work + more),
            draft_ids=ids.astype(np.int32, copy=False),
            parents=parents,
            draft=draft,
        )


def _check_draft(draft: DenseRows | None, count: int, vocab_size: int) -> DenseRows | None:
    """Check the rows of `count` drafted tokens against the target's."""
    if draft is None:
        return None
    if draft.rows != count:
        raise InvalidRequestError("draft.rows", f"{draft.rows} rows for {count} drafted tokens")
    if draft.vocab_size != vocab_size:
        raise InvalidRequestError(
            "draft.vocab_size", f"{draft.vocab_size}, but the target's rows have {vocab_size} numbers"
        )
    return draft


def _decode_parents(values: Sequence[int], count: int) -> NDArray[np.int32]:
    """Check the parents of `count` drafted tokens; those of a chain if none were sent."""
    if not values:
        return np.arange(-1, count - 1, dtype=np.int32)
    if len(values) != count:
        raise InvalidRequestError("parents", f"{len(values)} parents for {count} drafted tokens")
    parents = np.array(values, np.int32)
    outside = (parents < -1) | (parents >= np.arange(count))
    if outside.any():
        at = int(outside.argmax())
        raise InvalidRequestError(
            f"parents[{at}]", f"{parents[at]} is not in [-1, {at}); a token stands after the one that it follows"
        )
    return parents
