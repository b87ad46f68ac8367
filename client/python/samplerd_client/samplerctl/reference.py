"""The law as code: the server's decoder and its float64 reference, which need numpy and protobuf alone.

Rule 1: no other module of the client imports from samplerd_server, and this one imports nothing there that imports
torch, numba or grpc: `samplerctl replay` works where only the client is installed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from samplerd_server.config import LimitsConfig
from samplerd_server.core.enums import LogprobKind, RowErrorReason
from samplerd_server.core.errors import SamplerdError
from samplerd_server.core.request import RNG, SampleRequest
from samplerd_server.sampling.adaptive_state import next_states
from samplerd_server.sampling.parameters import FILTERS, steps_of
from samplerd_server.sampling.reference.distribution import Distribution, successive
from samplerd_server.sampling.reference.pipeline import sample
from samplerd_server.sampling.reference.replay import ROUNDING, RowReplay, replay
from samplerd_server.sampling.reference.verify import Verdict, draft_row, probabilities, verify
from samplerd_server.transport.codec.decode import Decoder
from samplerd_server.transport.codec.decode_draft import DraftDecoder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from samplerd_server.core.params import SamplingParams

__all__ = [
    "RNG",
    "ROUNDING",
    "Distribution",
    "DraftLaw",
    "LogprobKind",
    "RowErrorReason",
    "RowReplay",
    "SampleRequest",
    "SamplerdError",
    "decode",
    "filters_on",
    "next_states",
    "replay",
    "successive",
    "verify_again",
]


class _Everything(frozenset[str]):
    """The capabilities of the reference."""

    def __contains__(self, _: object) -> bool:
        return True


_DECODER = Decoder(
    # The largest that a server can be told: what it answered was within its own.
    limits=LimitsConfig(
        max_rows=1 << 20, max_vocab_size=1 << 28, max_samples=1 << 28, max_top_n=1 << 16, max_ids_per_list=1 << 24
    ),
    capabilities=_Everything(),
)


_DRAFT_DECODER = DraftDecoder(samples=_DECODER)


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftLaw:
    """A draft, what the law makes of it, and by which probabilities."""

    verdict: Verdict
    target: list[NDArray[np.float64] | None]
    """float64[V] for each of the n + 1 rows, filters applied; None = it cannot be drawn from."""
    draft: list[NDArray[np.float64] | None]
    """float64[V] for each of the n drafted tokens; None = it cannot be drawn from."""
    draft_ids: list[int]
    parents: list[int]
    draw_offset: int

    @property
    def is_whole(self) -> bool:
        """Whether every row can be drawn from."""
        return all(own is not None for own in (*self.target, *self.draft))


def verify_again(request: bytes) -> DraftLaw:
    """Check a VerifyDraftRequest with a seed as the server does, and verify it.

    Raises:
        SamplerdError: a field is malformed, contradictory or out of range.

    """
    asked = _DRAFT_DECODER.decode_bytes(request)
    ids, parents = asked.draft_ids.tolist(), asked.parents.tolist()
    rows = sample(asked.target)
    drafts = [draft_row(asked.draft, index, token, asked.target.source.vocab_size) for index, token in enumerate(ids)]
    return DraftLaw(
        verdict=verify(asked.target, ids, parents, asked.draft),
        target=[None if row.reason is not RowErrorReason.NONE else probabilities(row) for row in rows],
        draft=[None if isinstance(own, tuple) else own for own in drafts],
        draft_ids=ids,
        parents=parents,
        draw_offset=asked.target.draw_offset,
    )


def filters_on(params: SamplingParams) -> list[str]:
    """Name the filters of a row that are on, in the order in which they act, and the temperature among them."""
    is_on = {own.name: bool(own.is_on(params)) for own in FILTERS}
    return [name for name in steps_of(params) if is_on.get(name, True)]


def decode(request: bytes) -> SampleRequest:
    """Check a SampleRequest as the server does, and return what it means.

    Raises:
        SamplerdError: a field is malformed, contradictory or out of range.

    """
    return _DECODER.decode_bytes(request)
