"""Drafts verified by the kernels for a GPU in Triton's interpreter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from samplerd_server.batching.pack import pack
from samplerd_server.core.enums import Dtype
from samplerd_server.sampling.cuda.drafts import Draft, enqueue_draft, read_verdict
from samplerd_server.sampling.cuda.draw_memory import TensorMemory
from samplerd_server.sampling.cuda.interpreter import launch
from tests.support.drafts import Said

if TYPE_CHECKING:
    from collections.abc import Sequence

    from samplerd_server.core.request import SampleRequest
    from samplerd_server.core.rows import DenseRows


def verify_interpreted(
    target: SampleRequest, draft_ids: Sequence[int], parents: Sequence[int], draft: DenseRows | None
) -> Said:
    """The verdict of the kernels."""
    held = None if draft is None else np.frombuffer(draft.data, np.uint8)
    own = Draft(
        ids=np.array(draft_ids, np.int32),
        parents=np.array(parents, np.int32),
        address=0 if held is None else held.__array_interface__["data"][0],
        dtype=Dtype.F32 if draft is None else draft.dtype,
    )
    batch = pack([target])
    verdict = read_verdict(own, enqueue_draft(batch.rows, own, launch, TensorMemory()))
    return Said(verdict.samples, verdict.path, verdict.failed_row, verdict.failed_draft, verdict.reason, verdict.detail)
