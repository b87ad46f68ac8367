"""The arrow ``bytes -> VerifyRequest``: the target is checked as a `SampleRequest` is, and the draft beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.core.errors import InvalidRequestError
from samplerd_server.core.request import VerifyRequest
from samplerd_server.transport.codec.decode_params import ParamsContext, decode_ids
from samplerd_server.transport.codec.decode_rows import decode_tensor

if TYPE_CHECKING:
    from samplerd_server.core.rows import DenseRows
    from samplerd_server.transport.codec.decode import Decoder

__all__ = ["DraftDecoder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftDecoder:
    """Decodes drafts with the limits and capabilities of the decoder of samples."""

    samples: Decoder

    def decode(self, message: pb.VerifyDraftRequest) -> VerifyRequest:
        """Check one request.

        Raises:
            InvalidRequestError: a field is malformed, contradictory or out of range.
            NotImplementedFieldError: a field is used that does not work here.

        """
        if not message.HasField("target"):
            raise InvalidRequestError("target", "no rows were sent")
        target = pb.SampleRequest(
            id=message.id,
            params=message.params if message.HasField("params") else None,
            row_params=message.row_params,
            seed=message.seed if message.HasField("seed") else None,
            kind=message.kind,
            draw_offset=message.draw_offset,
        )
        rows = decode_tensor(message.target, self.samples.limits, "target")
        checked = self.samples.decode_with(target, rows)
        count = len(message.draft_ids)
        if count == 0:
            raise InvalidRequestError("draft_ids", "no drafted tokens were sent")
        if rows.rows != count + 1:
            raise InvalidRequestError(
                "target.rows", f"{rows.rows} rows for {count} drafted tokens; one more than tokens is needed"
            )
        context = ParamsContext(
            vocab_size=rows.vocab_size,
            max_tokens=self.samples.limits.max_ids_per_list,
            capabilities=self.samples.capabilities,
        )
        ids = decode_ids(message.draft_ids, "draft_ids", context)
        assert ids is not None, "ids that are there were decoded to none. This is a bug."
        return VerifyRequest(
            id=message.id,
            target=checked,
            draft_ids=ids.astype(np.int32, copy=False),
            draft=self._decode_draft(message, count, rows.vocab_size),
        )

    def _decode_draft(self, message: pb.VerifyDraftRequest, count: int, vocab_size: int) -> DenseRows | None:
        if not message.HasField("draft"):
            return None
        draft = decode_tensor(message.draft, self.samples.limits, "draft")
        if draft.rows != count:
            raise InvalidRequestError("draft.rows", f"{draft.rows} rows for {count} drafted tokens")
        if draft.vocab_size != vocab_size:
            raise InvalidRequestError(
                "draft.vocab_size", f"{draft.vocab_size}, but the target's rows have {vocab_size} numbers"
            )
        return draft
