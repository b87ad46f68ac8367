"""The sampling parameters as typed fields: generated from the server's table by `make generate`; not to be edited."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client.parameter_kinds import fill_from, setters_of
from samplerd_client.parameter_table import DRY, PARAMETERS
from samplerd_client.systems import preset_fields

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from samplerd_client.parameter_kinds import FilterStep, Ids, Order, PenaltyScope, TieRule, XtcExemption
    from samplerd_client.systems import System

__all__ = ["GROUPS", "SETTERS", "Dry", "SamplingFields", "SamplingParams"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dry:
    """Penalise tokens that would continue a repetition of history (DRY: don't repeat yourself)."""

    multiplier: float
    """Strength of DRY: a repeat of n tokens costs multiplier x base^(n - allowed_length); 0 turns DRY off."""
    base: float | None = None
    """Growth of the DRY penalty for each token of the repeat; 1.75 by default."""
    allowed_length: int | None = None
    """Length of the longest repeat that DRY does not penalise; 2 by default."""
    range: int | None = None
    """How many of the last tokens of history DRY looks at; 0, the default, means all."""
    sequence_breakers: Ids | None = None
    """Tokens at which DRY ends a repeat."""
    breaker_sequences: Sequence[Ids] | None = None
    """Sequences of tokens at which DRY ends a repeat."""
    allow_no_repeat: bool | None = None
    """Take allowed_length as 0, where a 0 sent as such means 2: DRY then penalises even a repeat of no token."""

    def to_proto(self) -> pb.DryParams:
        """Return the message; TypeError or ValueError, naming the field, where a value does not fit."""
        return fill_from(pb.DryParams(), self, _DRY_SETTERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How one row, or every row, is drawn from. None is the server's default."""

    temperature: float | None = None
    """Divide the logits by this before softmax: below 1 sharpens, above 1 flattens, 0 takes the argmax."""
    top_k: int | None = None
    """Keep exactly the k most likely; 0 turns it off."""
    top_p: float | None = None
    """Keep the shortest prefix, most likely first, with at least this much of the probability; 1 turns it off."""
    min_p: float | None = None
    """Keep ids with at least this share of the largest probability; 0 turns it off."""
    top_a: float | None = None
    """Keep ids with at least this share of the square of the largest probability; 0 turns it off."""
    typical_p: float | None = None
    """Keep the most typical (the information nearest to the entropy) up to this much of the probability; 1 turns it
    off."""
    epsilon_cutoff: float | None = None
    """Keep ids with at least this probability; 0 turns it off."""
    eta_cutoff: float | None = None
    """Keep ids with at least the probability min(eta, sqrt(eta) x exp(-entropy)); 0 turns it off."""
    top_h: float | None = None
    """Keep the longest prefix, most likely first, that adds at most this share of the entropy; 1 turns it off."""
    top_n_sigma: float | None = None
    """Keep logits of at least the largest minus this many standard deviations; 0 turns it off."""
    xtc_threshold: float | None = None
    """When XTC acts, drop all but the least likely of those with at least this probability; above 0.5 XTC never
    acts."""
    xtc_probability: float | None = None
    """Probability that XTC acts on a row; 0 turns it off."""
    xtc_exempt_ids: Ids | None = None
    """Tokens that XTC does not drop, such as the end of the text and a new line."""
    xtc_exemption: XtcExemption | None = None
    """Where XTC would drop an exempt token, let it keep that token, by default, or leave the whole row alone."""
    adaptive_target: float | None = None
    """Prefer tokens near a moving probability, which draws the mean probability of the tokens towards this; 0 turns it
    off."""
    adaptive_weighted_sum: float | None = None
    """The decayed sum of the probabilities of the tokens drawn so far, for adaptive_target; 0 by default."""
    adaptive_total_weight: float | None = None
    """The decayed number of the tokens drawn so far, for adaptive_target; 0, the default, means none yet."""
    adaptive_decay: float | None = None
    """What a token leaves of the weight of those before it, in the state of adaptive-p that is returned; 0.9 by
    default."""
    skew: float | None = None
    """Raise the cumulative probabilities of what is kept to the power e^skew: above 0 prefers the less likely; 0 turns
    it off."""
    dynamic_temperature_range: float | None = None
    """Vary the temperature by up to this much around `temperature`, with the entropy of the row, down to 0 at most; 0
    turns it off."""
    dynamic_temperature_exponent: float | None = None
    """Raise the normalised entropy to this power when the temperature is dynamic; 1 by default."""
    dynamic_temperature_counts_all: bool | None = None
    """Let dynamic temperature count forbidden tokens and those that top_n_sigma dropped too, as in llama.cpp."""
    smoothing_factor: float | None = None
    """Bend the logits after the temperature, to -factor x the square of their distance below the largest; 0 turns it
    off."""
    smoothing_curve: float | None = None
    """Shape of the smoothing: the square of the distance at 1, the default, its cube at 3, else a mixture."""
    guidance_scale: float | None = None
    """Move the logits away from those of the guidance row, to u + scale x (c - u), with c of the row and u of the
    guidance row; 1 turns it off."""
    repetition_penalty: float | None = None
    """Divide positive and multiply other logits of the tokens in history by this; 1 turns it off."""
    frequency_penalty: float | None = None
    """Subtract this from a token's logit for each time that it occurs in history; 0 turns it off."""
    presence_penalty: float | None = None
    """Subtract this once from the logit of every token that occurs in history; 0 turns it off."""
    repetition_scope: PenaltyScope | None = None
    """Let repetition_penalty look at these tokens of history: all of them, by default, or those of the output."""
    frequency_scope: PenaltyScope | None = None
    """Let frequency_penalty count these tokens of history: all of them, by default, or those of the output."""
    presence_scope: PenaltyScope | None = None
    """Let presence_penalty look at these tokens of history: all of them, by default, or those of the output."""
    penalty_range: int | None = None
    """How many of the last tokens of history the repetition, frequency and presence penalties look at; 0, the default,
    means all."""
    dry: Dry | None = None
    """Penalise tokens that would continue a repetition of history (DRY: don't repeat yourself)."""
    history: Ids | None = None
    """The tokens so far, oldest first: what the penalties look at."""
    prompt_length: int | None = None
    """How many of the first tokens of history are the prompt, which scopes can leave out; 0 by default."""
    logit_bias: Mapping[int, float] | None = None
    """Add an amount to the logit of each of these tokens; -inf forbids the token."""
    allowed_tokens: Ids | None = None
    """Allow only these tokens to be drawn."""
    token_bitmask: bytes | NDArray[Any] | None = None
    """Allow token j to be drawn only if bit j mod 32 of int32 word j div 32 is set."""
    no_repeat_ngram_size: int | None = None
    """Forbid a token that would complete a sequence of this many tokens which history has already; 0 turns it off."""
    bad_words: Sequence[Ids] | None = None
    """Forbid the last token of each of these sequences where history ends with the tokens before it."""
    bad_words_scope: PenaltyScope | None = None
    """Forbid bad words that begin within these tokens of history: all, by default, or those of the output."""
    min_tokens_to_keep: int | None = None
    """Keep at least this many tokens in every filter; 1 by default."""
    top_k_is_exact: bool | None = None
    """Let top_k and top_n_sigma keep what they ask for, even if that is less than min_tokens_to_keep."""
    order: Order | None = None
    """Apply the filters in the order of this system; hugging_face by default."""
    steps: Sequence[FilterStep] | None = None
    """Apply the temperature and the filters in this order, first to last, in place of `order`."""
    ties: TieRule | None = None
    """Decide which of several equal categories a filter keeps where it cuts; lowest_id by default."""

    def to_proto(self) -> pb.SamplingParams:
        """Return the message; TypeError or ValueError, naming the field, where a value does not fit."""
        return fill_from(pb.SamplingParams(), self, SETTERS)

    @classmethod
    def like(cls, system: System, **fields: Unpack[SamplingFields]) -> Self:
        """Return what a user of another sampler gets, with these fields on top: order, ties, scopes and defaults.

        Args:
            system: whose; `systems.PRESETS` says of which version.
            fields: take the place of its defaults; None leaves a default as it is.

        """
        return cls(**preset_fields(system, fields))


class SamplingFields(TypedDict, total=False):
    """The fields of SamplingParams as keywords."""

    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    top_a: float | None
    typical_p: float | None
    epsilon_cutoff: float | None
    eta_cutoff: float | None
    top_h: float | None
    top_n_sigma: float | None
    xtc_threshold: float | None
    xtc_probability: float | None
    xtc_exempt_ids: Ids | None
    xtc_exemption: XtcExemption | None
    adaptive_target: float | None
    adaptive_weighted_sum: float | None
    adaptive_total_weight: float | None
    adaptive_decay: float | None
    skew: float | None
    dynamic_temperature_range: float | None
    dynamic_temperature_exponent: float | None
    dynamic_temperature_counts_all: bool | None
    smoothing_factor: float | None
    smoothing_curve: float | None
    guidance_scale: float | None
    repetition_penalty: float | None
    frequency_penalty: float | None
    presence_penalty: float | None
    repetition_scope: PenaltyScope | None
    frequency_scope: PenaltyScope | None
    presence_scope: PenaltyScope | None
    penalty_range: int | None
    dry: Dry | None
    history: Ids | None
    prompt_length: int | None
    logit_bias: Mapping[int, float] | None
    allowed_tokens: Ids | None
    token_bitmask: bytes | NDArray[Any] | None
    no_repeat_ngram_size: int | None
    bad_words: Sequence[Ids] | None
    bad_words_scope: PenaltyScope | None
    min_tokens_to_keep: int | None
    top_k_is_exact: bool | None
    order: Order | None
    steps: Sequence[FilterStep] | None
    ties: TieRule | None


_DRY_SETTERS = setters_of(DRY)
SETTERS = setters_of(PARAMETERS)
"""What sets the field of each, by its name."""
GROUPS: dict[str, type[Any]] = {"dry": Dry}
"""The class of each group of parameters."""
