"""Requests that came together and are alike, joined into one request of several rows.

A row with a seed of its own draws what it draws as the only row of a request, so that the joint request has the ids of
each. One request costs the queue, the batch and the reply little more than any of them would alone.

Rule 1: only messages of a kind that `KnownRequests` remembers are joined: with one row, without outputs. Rule 2: what
is joined is small, in bytes, in draws and in price: the numbers are copied, and one request is drawn whole. Rule 3: the
order of the messages is kept. Event loop.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from samplerd_server.core.buffers import address_of
from samplerd_server.core.request import SampleRequest
from samplerd_server.core.result import SampleResult
from samplerd_server.core.rows import DenseRows
from samplerd_server.transport.codec.encode import encode, encode_each
from samplerd_server.transport.codec.fresh_seed import fresh_seed
from samplerd_server.transport.codec.known_requests import KnownRequests

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from samplerd_server.transport.codec.decode import Decoder
    from samplerd_server.transport.codec.scanned import Scanned

__all__ = ["JointRequest", "encode_joint", "join_requests"]

_MOST_BYTES = 1 << 14
"""Longer messages are not joined: to copy their numbers takes as long as they cost alone."""
_MOST_SAMPLES = 16
"""Requests for more samples are not joined: their replies may be long."""
_MOST_WORK = 1e6
"""The highest price of a joint request, in nanoseconds: nothing of a lower one is cut into slices."""


class JointRequest(NamedTuple):
    """Several requests as one."""

    request: SampleRequest
    """Has a row, and a seed of that row, for each of them."""
    ids: list[int]
    """The id of each."""
    seeds: list[int]
    """The seed of each."""
    messages: list[bytes]
    """The message of each, in case that they cannot be queued together."""


def join_requests(decoder: Decoder, messages: Sequence[bytes], most_rows: int) -> Iterator[bytes | JointRequest]:
    """Join neighbouring messages that are alike; give the others as they are.

    Args:
        decoder: has checked messages before these.
        messages: each is one request.
        most_rows: the most that may be joined.

    """
    run: list[tuple[bytes, Scanned]] = []
    like: SampleRequest | None = None
    size = most = 0
    last: object = None
    for message in messages:
        found, kind = _kind_of(decoder, message)
        if kind is None or found is None:
            yield from _end(run, like)
            run, like, last = [], None, None
            yield message
            continue
        if kind != last or len(run) >= most or found.data_end - found.data_at != size:
            yield from _end(run, like)
            run, last = [], kind
            size, like = decoder.known.like(kind) or (0, None)
            most = 0 if like is None else _most_alike(like, most_rows)
            if most < 2 or like is None or found.data_end - found.data_at != size:  # one is not joined
                last = None
                yield message
                continue
        run.append((message, found))
    yield from _end(run, like)


def _kind_of(decoder: Decoder, message: bytes) -> tuple[Scanned | None, object]:
    """Scan a message, and say of which kind it is; None = it is not joined."""
    if decoder.scan is None or len(message) > _MOST_BYTES:
        return None, None
    found = decoder.scan(message)
    if not found.is_done or found.draw_offset:
        return None, None
    return found, KnownRequests.kind_of(message, found)


def _most_alike(like: SampleRequest, most_rows: int) -> int:
    """Count how many requests like this one may be joined."""
    if like.source.rows != 1 or not like.with_replacement or like.num_samples > _MOST_SAMPLES:
        return 0
    return min(most_rows, int(_MOST_WORK // max(1, like.work)))


def _end(run: list[tuple[bytes, Scanned]], like: SampleRequest | None) -> Iterator[bytes | JointRequest]:
    """Join the messages of a run, if there are several."""
    if len(run) == 1 or like is None:
        for message, _ in run:
            yield message
    elif run:
        yield _join(run, like)


def _join(run: list[tuple[bytes, Scanned]], like: SampleRequest) -> JointRequest:
    data = b"".join([memoryview(message)[found.data_at : found.data_end] for message, found in run])
    seeds = [found.seed if found.has_seed else fresh_seed() for _, found in run]
    rows, count = like.source, len(run)
    source = DenseRows(
        dtype=rows.dtype,  # type: ignore[union-attr]  # rows of a tensor, by rule 1
        rows=count,
        vocab_size=rows.vocab_size,
        data=data,
        address=address_of(data),
    )
    request = SampleRequest(
        id=0,
        source=source,
        params=like.params,
        num_samples=like.num_samples,
        kind=like.kind,
        row_seeds=np.array(seeds, np.uint64),
        priority=like.priority,
        greedy_rows=like.greedy_rows * count,
        work=like.work * count,
    )
    return JointRequest(request, [found.id for _, found in run], seeds, [message for message, _ in run])


def encode_joint(joint: JointRequest, result: SampleResult) -> list[bytes]:
    """Encode the reply to each of the requests."""
    samples, errors = joint.request.num_samples, {error.row: error for error in result.row_errors}
    if not errors:
        return encode_each(joint.ids, joint.seeds, result)
    replies = []
    for row, (own_id, seed) in enumerate(zip(joint.ids, joint.seeds, strict=True)):
        own = SampleResult(
            samples=result.samples[row * samples : (row + 1) * samples],
            row_errors=(replace(errors[row], row=0),) if row in errors else (),
            timing=result.timing,
        )
        replies.append(encode(replace(joint.request, id=own_id, seed=seed), own))
    return replies
