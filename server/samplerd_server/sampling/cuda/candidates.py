"""Rows of candidates as the kernels draw from them: a row of as many numbers, whose positions have ids of their own.

Tokens that a row's parameters name become positions, here on the host, in which those that were not sent are left out:
they have no probability, whatever is done to them, since rows with a rest are not drawn by these kernels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from samplerd_server.sampling.cuda.change_record import Change
from samplerd_server.sampling.cuda.history import read_ids
from samplerd_server.sampling.decode import read_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from numpy.typing import NDArray

__all__ = ["are_ascending", "find_tokens", "place_changes"]


def are_ascending(rows: NDArray[np.void]) -> NDArray[np.bool_]:
    """Tell which rows, ROW[B], are dense or have candidates in order of their ids: bool[B]."""
    own = np.ones(len(rows), bool)
    for at in np.flatnonzero(rows["candidate_ids"]).tolist():
        ids = read_ids(rows[at], "candidate_ids", "width")
        own[at] = (ids[1:] > ids[:-1]).all()
    return own


def find_tokens(row: np.void, tokens: NDArray[np.int32]) -> NDArray[np.int32]:
    """Find the positions of tokens in a row, -1 for a candidate that was not sent."""
    if not row["candidate_ids"]:
        return tokens
    ids = read_ids(row, "candidate_ids", "width")
    at = np.searchsorted(ids, tokens)
    return np.where(ids[np.minimum(at, len(ids) - 1)] == tokens, at, -1).astype(np.int32)


def place_changes(changes: NDArray[np.int64], row: np.void, hold: Callable[[NDArray[Any]], int]) -> None:
    """Rewrite what is changed of a row of candidates, int64[CHANGES_PITCH], in positions; hold: see `make_changes`."""
    ids = read_ids(row, "candidate_ids", "width")
    allowed = None
    if row["has_allowed_tokens"]:
        allowed = np.isin(ids, read_ids(row, "allowed_tokens", "allowed_tokens_len"))
    elif row["has_token_bitmask"]:
        words = read_ids(row, "token_bitmask", "token_bitmask_len")
        bits = np.unpackbits(words.view(np.uint8), bitorder="little")
        allowed = (ids < len(bits)) & (np.append(bits, 0)[np.minimum(ids, len(bits))] != 0)
    if allowed is not None:
        places = np.flatnonzero(allowed).astype(np.int32)
        changes[Change.BITMASK_LEN], changes[Change.ALLOWED_LEN] = -1, len(places)
        changes[Change.ALLOWED] = hold(places)
    if row["bias_ids_len"]:
        places = find_tokens(row, read_ids(row, "bias_ids", "bias_ids_len"))
        values = read_bytes(int(row["bias_values"]), 4 * int(row["bias_values_len"])).view(np.float32)
        changes[Change.BIAS_IDS], changes[Change.BIAS_VALUES] = hold(places[places >= 0]), hold(values[places >= 0])
        changes[Change.BIAS_LEN] = (places >= 0).sum()
    if changes[Change.HISTORY_LEN]:
        changes[Change.HISTORY] = hold(find_tokens(row, read_ids(row, "history", "history_len")))
