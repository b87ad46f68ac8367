"""CDF indexes as tests build them: of the rows of a decoded request, in memory of their own."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from samplerd_server.batching.pack import pack
from samplerd_server.batching.pack_indexed import pack_indexed
from samplerd_server.core.enums import Dtype, InputKind
from samplerd_server.core.request import SampleRequest
from samplerd_server.core.rows import DenseRows
from samplerd_server.distributions.segment import (
    Description,
    Segment,
    SegmentDecoder,
    open_segment,
    size_of,
    write_segment,
)
from samplerd_server.sampling.cdf_index.builder import CdfIndexBuilder


@cache
def make_builder() -> CdfIndexBuilder:
    """One builder for the whole run."""
    builder = CdfIndexBuilder()
    builder.warm_up()
    return builder


def describe(name: str = "words", *, rows: int = 1, vocab_size: int = 4, **fields: object) -> Description:
    """A description of float32 logits, created at 0 and kept for 10 s, unless `fields` say otherwise."""
    base = {
        "kind": InputKind.LOGITS,
        "dtype": Dtype.F32,
        "params": None,
        "ttl_s": 10.0,
        "created": 0.0,
    }
    return Description(**{"name": name, "rows": rows, "vocab_size": vocab_size, **base, **fields})  # type: ignore[arg-type]


def segment_decoder(params: object = None) -> SegmentDecoder:
    return SegmentDecoder(params=lambda _: params, cdf_index=CdfIndexBuilder.open)  # type: ignore[arg-type,return-value]


def store_rows(asked: SampleRequest, *, has_fixed_params: bool = True, memory: np.ndarray | None = None) -> Segment:
    """Upload the rows of a request, with its parameters fixed."""
    source = asked.source
    assert isinstance(source, DenseRows)
    dtype = Dtype.F32 if source.dtype is Dtype.F64 else source.dtype
    own = describe(
        rows=source.rows,
        vocab_size=source.vocab_size,
        kind=asked.kind,
        dtype=dtype,
        params=b"" if has_fixed_params else None,
    )
    plan = make_builder().plan(pack([replace(asked, num_samples=1)]), asked.kind, asked.params[0])
    if memory is None:
        memory = np.zeros(size_of(own, plan) + 64, np.uint8)
        memory = memory[-memory.ctypes.data % 64 :][: size_of(own, plan)]
    write_segment(memory, own, source, plan)
    return open_segment(memory, segment_decoder(asked.params[0]))


def by_name(asked: SampleRequest, segment: Segment) -> SampleRequest:
    """The same request of stored rows, drawn by their CDF index."""
    return replace(asked, source=segment.rows, cdf_index=segment.rows.cdf_index)


def draw_indexed(*asked: SampleRequest) -> np.ndarray:
    """All samples of requests that are drawn by a CDF index."""
    return pack_indexed(asked).run().samples
