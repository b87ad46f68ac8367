"""How much memory a request keeps while it waits: the messages that its rows lie in, and lists decoded beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from samplerd_server.core.params import Dry, SamplingParams
    from samplerd_server.core.rows import CandidateRows, DenseRows, StoredRows

__all__ = ["lists_bytes", "rows_bytes"]

_LISTS = (
    "xtc_exempt_ids",
    "history",
    "bias_ids",
    "bias_values",
    "allowed_tokens",
    "bad_words_ids",
    "bad_words_ends",
    "steps",
)
_DRY_LISTS = ("sequence_breakers", "breaker_sequences_ids", "breaker_sequences_ends")
"""The fields of parameters, and of their DRY penalty, that are arrays or None."""


def rows_bytes(
    rows: DenseRows | CandidateRows | StoredRows, others: DenseRows | CandidateRows | StoredRows | None = None
) -> int:
    """Count the bytes that rows keep in memory; rows that are read in place keep their whole message, counted once."""
    message = _message_of(rows)
    held = rows.size_bytes if message is None else len(message)
    if others is None:
        return held
    other = _message_of(others)
    if other is None:
        return held + others.size_bytes
    return held if other is message else held + len(other)


def _message_of(rows: DenseRows | CandidateRows | StoredRows) -> bytes | None:
    """Give the message that rows are read from in place; None = they are not."""
    message = getattr(getattr(rows, "data", None), "obj", None)
    return message if type(message) is bytes else None


def lists_bytes(params: Iterable[SamplingParams]) -> int:
    """Count the bytes of the lists in parameters; lists that rows share count once for each row."""
    total = 0
    for own in params:
        if own.is_plain:
            continue
        total += _arrays_bytes(own, _LISTS)
        if own.dry is not None:
            total += _arrays_bytes(own.dry, _DRY_LISTS)
    return total


def _arrays_bytes(owner: SamplingParams | Dry, names: Iterable[str]) -> int:
    arrays = (getattr(owner, name) for name in names)
    return sum(array.nbytes for array in arrays if array is not None)
