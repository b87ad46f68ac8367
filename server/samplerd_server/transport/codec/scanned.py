"""What a scan finds in the bytes of a SampleRequest (`scan`, `plain_scan`)."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Scanned"]


class Scanned(NamedTuple):
    """The fields of a message, 0 where absent; positions count bytes from its begin."""

    is_done: bool
    """False: the scan gave up, and nothing here is valid."""
    is_simple: bool
    """True: the message has no other fields; False: only the positions and the fields of the source are valid."""
    is_shared: bool
    """The source is shared memory, of whose message only the position is known; otherwise it is a tensor."""
    id: int
    num_samples: int
    has_seed: bool
    seed: int
    replacement: int
    kind: int
    draw_offset: int
    priority: int
    params_at: int
    """Where the content of params begins; 0 = absent."""
    params_end: int
    outputs_at: int
    outputs_end: int
    guidance_tag: int
    """Where the field guidance begins, with its tag."""
    guidance_at: int
    """Where its content begins; 0 = absent. With it a message is not simple."""
    guidance_end: int
    source_tag: int
    """Where the field of the source begins, with its tag."""
    source_end: int
    dtype: int
    rows: int
    vocab_size: int
    data_at: int
    """Where the numbers begin; for shared memory, where its message begins."""
    data_end: int
