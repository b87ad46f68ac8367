"""Drafts: trees of tokens, and how every sampler verifies them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from samplerd_server.batching.pack import pack
from samplerd_server.sampling.reference import verify as reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from samplerd_server.core.enums import RowErrorReason
    from samplerd_server.core.request import SampleRequest
    from samplerd_server.core.rows import DenseRows
    from samplerd_server.sampling.sampler import Sampler


class Said(NamedTuple):
    """What a verdict says, whoever gave it."""

    samples: tuple[int, ...]
    path: tuple[int, ...]
    failed_row: int
    failed_draft: int
    reason: RowErrorReason
    detail: int


def chain(tokens: int) -> list[int]:
    """The parents of a chain."""
    return list(range(-1, tokens - 1))


def random_parents(numbers: np.random.Generator, tokens: int) -> list[int]:
    """The parents of a random tree: any with a smaller index, or the root."""
    return [int(numbers.integers(-1, index)) if index else -1 for index in range(tokens)]


def ask_reference(
    target: SampleRequest, draft_ids: Sequence[int], parents: Sequence[int], draft: DenseRows | None
) -> Said:
    """The verdict of the reference."""
    verdict = reference.verify(target, draft_ids, parents, draft)
    return Said(verdict.samples, verdict.path, verdict.failed_row, verdict.failed_draft, verdict.reason, verdict.detail)


def ask_sampler(
    sampler: Sampler,
    target: SampleRequest,
    draft_ids: Sequence[int],
    parents: Sequence[int],
    draft: DenseRows | None,
) -> Said:
    """The verdict of a sampler."""
    tokens, nodes = np.array(draft_ids, np.int32), np.array(parents, np.int32)
    verdict = sampler.verify(pack([target]), tokens, nodes, draft)
    return Said(verdict.samples, verdict.path, verdict.failed_row, verdict.failed_draft, verdict.reason, verdict.detail)
