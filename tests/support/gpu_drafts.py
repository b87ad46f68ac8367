"""Drafts verified by the kernels for a GPU in Triton's interpreter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from samplerd_server.batching.pack import pack
from samplerd_server.core.enums import Dtype
from samplerd_server.sampling.cuda.drafts import Draft, enqueue_drafts, new_judged, read_verdicts
from samplerd_server.sampling.cuda.draw_memory import TensorMemory
from samplerd_server.sampling.cuda.interpreter import launch
from tests.support.drafts import Said

if TYPE_CHECKING:
    from collections.abc import Sequence

    from samplerd_server.core.request import SampleRequest
    from samplerd_server.core.rows import DenseRows


def verify_interpreted(*asked: tuple[SampleRequest, Sequence[int], Sequence[int], DenseRows | None]) -> list[Said]:
    """The verdicts of the kernels on drafts that are verified together.

    asked: of each the target, the tokens, their parents, and the rows that they were drawn from.
    """
    batches, drafts = [pack([target]) for target, *_ in asked], []
    for target, ids, parents, draft in asked:
        held = None if draft is None else np.frombuffer(draft.data, np.uint8)
        drafts.append(
            Draft(
                ids=np.array(ids, np.int32),
                parents=np.array(parents, np.int32),
                width=target.source.vocab_size,
                address=0 if held is None else held.__array_interface__["data"][0],
                dtype=Dtype.F32 if draft is None else draft.dtype,
            )
        )
    judged = new_judged(drafts)
    enqueue_drafts(np.concatenate([batch.rows for batch in batches]), drafts, judged, launch, TensorMemory())
    return [
        Said(own.samples, own.path, own.failed_row, own.failed_draft, own.reason, own.detail)
        for own in read_verdicts(drafts, judged)
    ]
