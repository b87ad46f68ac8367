"""Requests of every kind, and drafts, sent to two servers at once: each reply must be that of the other, to the bit."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from samplerd.v1 import sampler_pb2 as pb
from tests.support.served import connect, stub

AT_ONCE = 64
WIDTHS = (5, 300, 1_000, 4_096)
_DRAFT_OF = 4
"""A draft is verified beside one request of so many."""
DTYPES = {pb.DTYPE_F32: np.float32, pb.DTYPE_F16: np.float16}


def make_request(number: int, widths: tuple[int, ...] = WIDTHS) -> pb.SampleRequest:
    """Make one of the requests, the same for a number."""
    rng = np.random.default_rng(number)
    width, dtype = int(rng.choice(widths)), int(rng.choice(list(DTYPES)))
    rows = int(rng.integers(1, 4))
    data = rng.normal(scale=3.0, size=(rows, width)).astype(DTYPES[dtype])
    if number % 50 == 0:
        data[0, 0] = np.nan
    own = pb.SampleRequest(
        id=number + 1,
        num_samples=int(rng.integers(1, 4)),
        seed=number,
        tensor=pb.Tensor(dtype=dtype, rows=rows, vocab_size=width, data=data.tobytes()),
        replacement=pb.REPLACEMENT_WITHOUT if number % 7 == 0 else pb.REPLACEMENT_WITH,
    )
    own.params.temperature = float(rng.choice([0.0, 0.3, 0.8, 1.0, 2.0]))
    if rng.random() < 0.4:
        own.params.top_k = int(rng.integers(3, 60))
    if rng.random() < 0.4:
        own.params.top_p = float(rng.choice([0.5, 0.9]))
    if rng.random() < 0.2:
        own.params.min_p = 0.02
    if rng.random() < 0.1:
        own.params.typical_p = 0.9
    if rng.random() < 0.2:
        own.params.history.extend(rng.integers(0, width, 10).tolist())
        own.params.repetition_penalty = 1.2
    if rng.random() < 0.3:
        own.outputs.logprobs.extend([pb.LOGPROB_KIND_RAW, pb.LOGPROB_KIND_SCALED])
        own.outputs.top_n, own.outputs.rank, own.outputs.kept = 3, True, True
    return own


def make_draft(number: int, widths: tuple[int, ...] = WIDTHS) -> pb.VerifyDraftRequest:
    """Make a draft, the same for a number: a tree of tokens that the target finds likely."""
    rng = np.random.default_rng([number, 1])
    width, dtype = int(rng.choice(widths)), int(rng.choice(list(DTYPES)))
    n = int(rng.integers(1, 6))
    x = rng.normal(scale=3.0, size=(n + 1, width)).astype(DTYPES[dtype])
    parents = [int(rng.integers(-1, at)) if at else -1 for at in range(n)]
    y = np.exp(x[[parent + 1 for parent in parents]].astype(np.float64))
    q = (y / y.sum(axis=1, keepdims=True) * rng.uniform(0.5, 1.5, y.shape)).astype(np.float32)
    own = pb.VerifyDraftRequest(
        id=number + 1,
        seed=number,
        target=pb.Tensor(dtype=dtype, rows=n + 1, vocab_size=width, data=x.tobytes()),
        draft_ids=[int(rng.choice(width, p=row / row.sum())) for row in q.astype(np.float64)],
        parents=parents,
    )
    if rng.random() < 0.7:
        own.draft.CopyFrom(pb.Tensor(dtype=pb.DTYPE_F32, rows=n, vocab_size=width, data=q.tobytes()))
    if rng.random() < 0.5:
        own.params.top_p = float(rng.choice([0.5, 0.9]))
    return own


def without_times(reply: pb.SampleResponse | pb.VerifyDraftResponse) -> bytes:
    reply.ClearField("timing")
    return reply.SerializeToString(deterministic=True)


async def compare_servers(one: str, other: str, count: int, widths: tuple[int, ...] = WIDTHS) -> None:
    """Send requests, and a fourth as many drafts, to both addresses, and hold the replies against each other."""
    room = asyncio.Semaphore(AT_ONCE)
    async with connect(one) as first, connect(other) as second:
        stubs: list[Any] = [stub(first), stub(second)]

        async def ask(number: int) -> None:
            async with room:
                asked = make_request(number, widths)
                replies = await asyncio.gather(*(own.Sample(asked, timeout=500) for own in stubs))
                assert without_times(replies[0]) == without_times(replies[1]), asked
                if number % _DRAFT_OF == 0:
                    draft = make_draft(number, widths)
                    verdicts = await asyncio.gather(*(own.VerifyDraft(draft, timeout=500) for own in stubs))
                    assert without_times(verdicts[0]) == without_times(verdicts[1]), draft

        await asyncio.gather(*map(ask, range(count)))
