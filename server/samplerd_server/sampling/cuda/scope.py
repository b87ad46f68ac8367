"""Which rows the kernels draw from; the others are drawn by the compiled kernels of the CPU, to the same bits.

Only candidates with a rest are left to the CPU, which draws them in less time than the host takes to tell a card of
them (docs/design/0052-what-the-host-does-for-a-card.md). The kernels are bit-checked in the interpreter, and not yet
timed: none has run on a GPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from samplerd_server.sampling.cuda.candidates import are_ascending
from samplerd_server.sampling.cuda.keep import MOST
from samplerd_server.sampling.rows import COLD_DEFAULT, HOT, ROW

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["are_few", "is_drawn"]

_DEFAULT = np.frombuffer(bytes(HOT.size) + COLD_DEFAULT, ROW)[0]
_NAMES = ROW.names or ()
_OUTPUTS = {"named", "named_len", "named_at", "top_n", "top_at", "drawn"}
_NARROW = {
    *("top_n_sigma", "top_a", "typical_p", "epsilon_cutoff", "eta_cutoff", "top_h", "xtc_probability", "xtc_threshold"),
    *("xtc_exempt_ids", "xtc_exempt_ids_len", "xtc_exemption", "adaptive_target", "skew"),
    *("order", "steps", "steps_len", "ties", "min_tokens_to_keep", "top_k_is_exact"),
}
"""The parameters of filters, and of what shapes what they keep, that `keep` does not know."""
_FILTERS = {"top_k", "top_p", "min_p", *_NARROW}
_CHANGES = {
    *("token_bitmask", "token_bitmask_len", "has_token_bitmask"),
    *("allowed_tokens", "allowed_tokens_len", "has_allowed_tokens"),
    *("bias_ids", "bias_ids_len", "bias_values", "bias_values_len", "history", "history_len", "prompt_length"),
    *("repetition_penalty", "frequency_penalty", "presence_penalty", "penalty_range"),
    *("repetition_scope", "frequency_scope", "presence_scope"),
    *("no_repeat_ngram_size", "bad_words_scope", "bad_words_ids", "bad_words_ids_len"),
    *("bad_words_ends", "bad_words_ends_len"),
    *(name for name in _NAMES if name.startswith("dry_")),
    *("guidance", "guidance_dtype", "guidance_scale", "candidate_ids"),
    *("dynamic_temperature_range", "dynamic_temperature_exponent", "dynamic_temperature_counts_all"),
    *("smoothing_factor", "smoothing_curve", "adaptive_decay", "adaptive_weighted_sum", "adaptive_total_weight"),
}
_OTHERS = sorted(set(_NAMES[_NAMES.index("plain") + 1 :]) - _OUTPUTS - _FILTERS - _CHANGES)
"""The fields of parameters that must be absent."""


def is_drawn(rows: NDArray[np.void]) -> NDArray[np.bool_]:
    """Tell which rows, ROW[B], these kernels draw from: bool[B].

    They are dense, or candidates beside which there is no rest, in order of their ids as the decoder leaves them, and
    have any parameters and outputs.
    """
    own = are_ascending(rows)
    for field in _OTHERS:
        own &= rows[field] == _DEFAULT[field]
    return own


def are_few(rows: NDArray[np.void]) -> NDArray[np.bool_]:
    """Tell which rows have a top_k of at most `MOST`, and no filter but top_p and min_p after it: `keep` does these."""
    own: NDArray[np.bool_] = (rows["top_k"] > 0) & (rows["top_k"] <= MOST) & (rows["temperature"] > 0)
    for field in _NARROW:
        own &= rows[field] == _DEFAULT[field]
    return own
