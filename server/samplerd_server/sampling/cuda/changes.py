"""What is changed of rows before the temperature, as `adjust` takes it.

What follows from the order of tokens in history (bad words, n-grams, repeats) is found here, on the host, which has
the history: in linear time and by the text of the portable sampler. A GPU would compare each token with each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from samplerd_server.sampling.cuda.candidates import find_tokens, place_changes
from samplerd_server.sampling.cuda.change_record import CHANGES_PITCH, Change
from samplerd_server.sampling.cuda.columns import Columns
from samplerd_server.sampling.cuda.history import forbidden_tokens, has_bans, lowered_tokens
from samplerd_server.sampling.masses import shift_of
from samplerd_server.sampling.parameters import has_token_penalties
from samplerd_server.sampling.scope import first_in_scope

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from numpy.typing import NDArray

__all__ = ["are_changed", "are_dynamic", "are_smoothed", "become_logits", "make_changes"]

_ADDRESSES = {
    Change.BITMASK: "token_bitmask",
    Change.ALLOWED: "allowed_tokens",
    Change.BIAS_IDS: "bias_ids",
    Change.BIAS_VALUES: "bias_values",
    Change.HISTORY: "history",
}
_SCOPES = {
    Change.REPETITION_FROM: "repetition_scope",
    Change.FREQUENCY_FROM: "frequency_scope",
    Change.PRESENCE_FROM: "presence_scope",
}
_PENALTIES = {
    Change.REPETITION: "repetition_penalty",
    Change.FREQUENCY: "frequency_penalty",
    Change.PRESENCE: "presence_penalty",
}
_SMOOTHING = {
    Change.SMOOTHING: "smoothing_factor",
    Change.CURVE: "smoothing_curve",
    Change.SMOOTHED_AT: "temperature",
}
_DYNAMIC = {
    Change.TEMPERATURE: "temperature",
    Change.RANGE: "dynamic_temperature_range",
    Change.EXPONENT: "dynamic_temperature_exponent",
}


def _are_penalised(rows: NDArray[np.void]) -> NDArray[np.bool_]:
    own: NDArray[np.bool_] = (rows["history_len"] > 0) & has_token_penalties(Columns(rows))
    return own


def are_smoothed(rows: NDArray[np.void]) -> NDArray[np.bool_]:
    """Tell which rows, ROW[B], are smoothed: bool[B]. At T = 0 none is."""
    own: NDArray[np.bool_] = (rows["smoothing_factor"] > 0) & (rows["temperature"] > 0)
    return own


def are_dynamic(rows: NDArray[np.void]) -> NDArray[np.bool_]:
    """Tell which rows, ROW[B], have a dynamic temperature: bool[B]. At T = 0 none has."""
    own: NDArray[np.bool_] = (rows["dynamic_temperature_range"] > 0) & (rows["temperature"] > 0)
    return own


def become_logits(rows: NDArray[np.void]) -> NDArray[np.bool_]:
    """Tell which rows, ROW[B], are surely logits once they are changed, if they were weights: bool[B]."""
    own: NDArray[np.bool_] = (rows["guidance"] != 0) | (rows["bias_ids_len"] > 0) | _are_penalised(rows)
    own |= (rows["history_len"] > 0) & (rows["dry_multiplier"] > 0)
    return own | (
        are_smoothed(rows) & ~are_dynamic(rows)
    )  # at a temperature that turns out to be 0 nothing is smoothed


def are_changed(rows: NDArray[np.void]) -> NDArray[np.bool_]:
    """Tell which rows, ROW[B], have guidance, a mask, a bias or penalties: bool[B]."""
    own: NDArray[np.bool_] = become_logits(rows) | (rows["has_token_bitmask"] != 0) | (rows["has_allowed_tokens"] != 0)
    return own | has_bans(rows) | are_dynamic(rows)


def make_changes(
    rows: NDArray[np.void], some: NDArray[np.int64], hold: Callable[[NDArray[Any]], int]
) -> NDArray[np.int64]:
    """Write what is changed of some rows: int64[N], as int64[N, CHANGES_PITCH]; the places of records are left 0.

    hold: puts an array where kernels can read it while the batch lasts, and returns its address.
    """
    own = rows[some]
    changes = np.zeros((len(some), CHANGES_PITCH), np.int64)
    if not len(some):
        return changes
    for place, name in _ADDRESSES.items():
        changes[:, place] = own[name].astype(np.uint64).view(np.int64)
    has_bitmask, has_list = own["has_token_bitmask"] != 0, own["has_allowed_tokens"] != 0
    changes[:, Change.BITMASK_LEN] = np.where(has_bitmask, own["token_bitmask_len"], -1)
    changes[:, Change.ALLOWED_LEN] = np.where(has_list & ~has_bitmask, own["allowed_tokens_len"], -1)
    changes[:, Change.BIAS_LEN] = own["bias_ids_len"]
    changes[:, Change.HISTORY_LEN] = np.where(_are_penalised(own), own["history_len"], 0)
    for place, name in _SCOPES.items():
        changes[:, place] = [
            first_in_scope(
                int(row["history_len"]), int(row[name]), int(row["prompt_length"]), int(row["penalty_range"])
            )
            for row in own
        ]
    for place, name in _PENALTIES.items():
        changes[:, place] = own[name].astype(np.float64).view(np.int64)
    changes[:, Change.BECOMES_LOGITS] = become_logits(own)
    changes[:, Change.GUIDANCE_SCALE] = own["guidance_scale"].astype(np.float64).view(np.int64)
    changes[:, Change.GUIDANCE_SHIFT] = [shift_of(width) for width in own["width"].tolist()]
    for place, name in _SMOOTHING.items():
        changes[:, place] = np.where(are_smoothed(own), own[name], 0.0).astype(np.float64).view(np.int64)
    is_dynamic = are_dynamic(own)
    for place, name in _DYNAMIC.items():
        changes[:, place] = np.where(is_dynamic, own[name], 0.0).astype(np.float64).view(np.int64)
    changes[:, Change.COUNTED] = np.where(own["dynamic_temperature_counts_all"] != 0, own["vocab_size"], 0)
    for at in np.flatnonzero(has_bans(own)).tolist():
        forbidden = find_tokens(own[at], forbidden_tokens(own[at]))
        forbidden = forbidden[forbidden >= 0]
        changes[at, Change.FORBIDDEN], changes[at, Change.FORBIDDEN_LEN] = hold(forbidden), len(forbidden)
    for at in np.flatnonzero((own["history_len"] > 0) & (own["dry_multiplier"] > 0)).tolist():
        tokens, losses = lowered_tokens(own[at])
        lowered = find_tokens(own[at], tokens)
        lowered, losses = lowered[lowered >= 0], losses[lowered >= 0]
        changes[at, Change.LOWERED], changes[at, Change.LOSSES] = hold(lowered), hold(losses)
        changes[at, Change.LOWERED_LEN] = len(lowered)
    for at in np.flatnonzero(own["candidate_ids"]).tolist():
        place_changes(changes[at], own[at], hold)
    return changes
