"""Metadata of the calls that are made within a block of code: request ids and trace contexts, for example.

A context variable holds it, so tasks that begin within the block have it too, and so has the synchronous client.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from samplerd_client.channel import check_metadata_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["call_metadata", "current_metadata"]

_METADATA: ContextVar[tuple[tuple[str, str], ...]] = ContextVar("metadata of samplerd's calls", default=())


@contextmanager
def call_metadata(metadata: Mapping[str, str]) -> Iterator[None]:
    """Send metadata with every call that is made within the block, by any client.

    For example::

        with call_metadata({"x-request-id": "order-17", "traceparent": "00-..."}):
            client.sample(logits)

    Each of these calls is a request of its own: calls with metadata do not share one. Retries of a call carry the same.

    Args:
        metadata: by key: lower case, and neither gRPC's nor samplerd's own. It is added to the client's own metadata
            and to that of the blocks around this one; the last value of a key counts.

    Raises:
        ValueError: a key is not allowed.

    """
    for key in metadata:
        check_metadata_key(key)
    before = tuple(pair for pair in _METADATA.get() if pair[0] not in metadata)
    token = _METADATA.set((*before, *metadata.items()))
    try:
        yield
    finally:
        _METADATA.reset(token)


def current_metadata() -> tuple[tuple[str, str], ...]:
    """Return the metadata of a call that is made now."""
    return _METADATA.get()
