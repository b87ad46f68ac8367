"""The law as code: the server's decoder and its float64 reference, which need numpy and protobuf alone.

Rule 1: no other module of the client imports from samplerd_server, and this one imports nothing there that imports
torch, numba or grpc: `samplerctl replay` works where only the client is installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplerd_server.config import LimitsConfig
from samplerd_server.core.enums import LogprobKind, RowErrorReason
from samplerd_server.core.errors import SamplerdError
from samplerd_server.core.request import RNG, SampleRequest
from samplerd_server.sampling.adaptive_state import next_states
from samplerd_server.sampling.parameters import FILTERS, steps_of
from samplerd_server.sampling.reference.distribution import Distribution, successive
from samplerd_server.sampling.reference.replay import ROUNDING, RowReplay, replay
from samplerd_server.transport.codec.decode import Decoder

if TYPE_CHECKING:
    from samplerd_server.core.params import SamplingParams

__all__ = [
    "RNG",
    "ROUNDING",
    "Distribution",
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
