"""Sampling parameters of one row, checked and normalised."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplerd_server.core.entity import Buffer, entity
from samplerd_server.core.enums import Order, PenaltyScope, TieRule, XtcExemption

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Dry", "SamplingParams"]


@entity
class Dry:
    """The DRY penalty over history."""

    multiplier: float = 0.0
    base: float = 1.75
    allowed_length: int = 2
    range: int = 0
    """How many of the last tokens of history are looked at; 0 = all."""
    sequence_breakers: NDArray[np.int32] | None = None
    breaker_sequences_ids: NDArray[np.int32] | None = None
    """The ids of all breaker sequences, one sequence after the other."""
    breaker_sequences_ends: NDArray[np.int32] | None = None
    """int32[sequences], ascending: where each of them ends in breaker_sequences_ids."""
    allow_no_repeat: bool = False
    """The allowed length is 0, whatever allowed_length says."""


@entity
class SamplingParams:
    """How one row is drawn from. Defaults are 'off'; meanings and ranges are those of the proto."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    top_a: float = 0.0
    typical_p: float = 1.0
    epsilon_cutoff: float = 0.0
    eta_cutoff: float = 0.0
    top_h: float = 1.0
    top_n_sigma: float = 0.0
    xtc_threshold: float = 0.0
    xtc_probability: float = 0.0
    xtc_exempt_ids: NDArray[np.int32] | None = None
    xtc_exemption: XtcExemption = XtcExemption.TOKEN
    adaptive_target: float = 0.0
    adaptive_weighted_sum: float = 0.0
    adaptive_total_weight: float = 0.0
    adaptive_decay: float = 0.9
    skew: float = 0.0
    dynamic_temperature_range: float = 0.0
    dynamic_temperature_exponent: float = 1.0
    dynamic_temperature_counts_all: bool = False
    smoothing_factor: float = 0.0
    smoothing_curve: float = 1.0
    guidance_scale: float = 1.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_scope: PenaltyScope = PenaltyScope.HISTORY
    frequency_scope: PenaltyScope = PenaltyScope.HISTORY
    presence_scope: PenaltyScope = PenaltyScope.HISTORY
    penalty_range: int = 0
    """How many of the last tokens of history these three look at; 0 = all."""
    dry: Dry | None = None
    history: NDArray[np.int32] | None = None
    prompt_length: int = 0
    """How many of the first tokens of history are the prompt."""
    bias_ids: NDArray[np.int32] | None = None
    bias_values: NDArray[np.float32] | None = None
    allowed_tokens: NDArray[np.int32] | None = None
    token_bitmask: Buffer | None = None
    """int32 words, little-endian."""
    no_repeat_ngram_size: int = 0
    bad_words_ids: NDArray[np.int32] | None = None
    """The ids of all bad words, one sequence after the other."""
    bad_words_ends: NDArray[np.int32] | None = None
    """int32[sequences], ascending: where each of them ends in bad_words_ids."""
    bad_words_scope: PenaltyScope = PenaltyScope.HISTORY
    min_tokens_to_keep: int = 1
    top_k_is_exact: bool = False
    order: Order = Order.HUGGING_FACE
    steps: NDArray[np.int32] | None = None
    """`core.enums.FilterStep`s, first to last; takes the place of the order."""
    ties: TieRule = TieRule.LOWEST_ID

    is_plain: bool = True
    """Temperature is the only thing set: no filter, penalty, bias or mask. Decided once, at decode."""

    @property
    def is_greedy(self) -> bool:
        """T = 0: the argmax is drawn, of the row or of what is left of it at the step of the temperature."""
        return self.temperature == 0.0
