"""Lists of ids, and of sequences of ids: each within [0, V), at most limits.max_ids_per_list of them in a list."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from samplerd_server.core.entity import entity
from samplerd_server.core.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

__all__ = ["ParamsContext", "decode_ids", "decode_sequences"]


@entity
class ParamsContext:
    """What the checks depend on beside the message."""

    vocab_size: int
    max_tokens: int
    """limits.max_ids_per_list."""
    capabilities: frozenset[str]
    """What the sampler can do."""
    has_guidance: bool = False
    """Whether the request has guidance rows."""
    takes_guidance: bool = True
    """Whether the request could have them."""

    @property
    def why_not_guided(self) -> str:
        """What is wrong with a guidance_scale other than 1 in a request without guidance rows."""
        if self.takes_guidance:
            return "needs guidance rows; this request has none"
        return "must be 1: only dense rows of Sample and SampleStream can be guided"


def decode_ids(
    values: Sequence[int], path: str, context: ParamsContext, *, member: str = ""
) -> NDArray[np.int32] | None:
    """Check a list of ids: each within [0, V), at most limits.max_ids_per_list of them; None for an empty one.

    Args:
        values: the ids.
        path: where the list stands in the request, for errors.
        context: vocabulary size and limits.
        member: where the id stands within an entry of the list: ``.id``, or nothing if the entry is the id.

    Raises:
        InvalidRequestError: too many, or one out of range.

    """
    return _checked_ids(values, path, lambda at: f"{path}[{at}]{member}", context) if values else None


def _checked_ids(
    values: Sequence[int], path: str, path_of: Callable[[int], str], context: ParamsContext
) -> NDArray[np.int32]:
    """Check ids; `path_of` says where one of them stands."""
    if len(values) > context.max_tokens:
        raise InvalidRequestError(path, f"{len(values)} ids are more than the limit of {context.max_tokens}")
    ids = np.array(values, np.int32)
    outside = (ids < 0) | (ids >= context.vocab_size)
    if outside.any():
        at = int(outside.argmax())
        raise InvalidRequestError(path_of(at), f"{ids[at]} is not in [0, {context.vocab_size})")
    return ids


def decode_sequences(
    sequences: Sequence[Sequence[int]], path: str, context: ParamsContext
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Check sequences of ids, of which there is at least one.

    Args:
        sequences: the ids of each.
        path: where the list of them stands in the request, for errors.
        context: vocabulary size and limits.

    Returns:
        int32[n], the ids of all, one sequence after the other; int32[sequences], where each ends in it.

    Raises:
        InvalidRequestError: too many ids in all, one out of range, or a sequence without any.

    """
    ends = np.cumsum([len(ids) for ids in sequences])
    for at, ids in enumerate(sequences):
        if not ids:
            raise InvalidRequestError(f"{path}[{at}].ids", "is empty")

    def path_of(place: int) -> str:
        at = int(np.searchsorted(ends, place, side="right"))
        return f"{path}[{at}].ids[{place - int(ends[at]) + len(sequences[at])}]"

    flat = [token for ids in sequences for token in ids]
    return _checked_ids(flat, path, path_of, context), ends.astype(np.int32)
