"""The reference, steps 2 to 4: mask, bias and penalties applied to the logits of one row. Numpy, float64.

A row is known in full, or by its candidates: then the categories that were not sent, the rest, have a known total mass
and a known upper bound, the smallest logit sent. An adjustment that touches the rest leaves the bound standing if it
can only lower logits, and makes the mass unknown; one that may raise them leaves nothing to say (`Undecidable`).

Adjusted logits are float32: bias, the three penalties together, and DRY are each computed in float64 and rounded once.
They saturate: a finite logit stays finite, within the range of float32, whatever is added to it; only a bias of -inf
and step 2 make -inf. Weights (INPUT_KIND_PROBABILITIES) become ln w, rounded to float32, before a bias or a penalty;
step 2 leaves them weights.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from samplerd_server.sampling import arithmetic
from samplerd_server.sampling.bans import last_of_bad_words, last_of_ngrams
from samplerd_server.sampling.dry import LARGEST, dry_penalties
from samplerd_server.sampling.parameters import has_token_penalties
from samplerd_server.sampling.scope import first_in_scope
from samplerd_server.sampling.sequences import sequences

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from samplerd_server.core.entity import Buffer
    from samplerd_server.core.enums import PenaltyScope
    from samplerd_server.core.params import Dry, SamplingParams

__all__ = ["Known", "Undecidable", "bias", "mask", "penalise"]


class Undecidable(Exception):  # noqa: N818  # a verdict, not an error of the program
    """The answer depends on categories that were not sent: OUTSIDE_CANDIDATES."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of one row."""

    ids: NDArray[np.int64]
    """int64[n], ascending."""
    logits: NDArray[np.float64]
    """float64[n]; -inf = never."""
    vocab_size: int
    """V."""
    weights: NDArray[np.float64] | None = None
    """float64[n] of a row of weights, of which `logits` are the logarithms; None of logits, and once adjusted."""
    rest: float = -math.inf
    """ln of the rest's mass; -inf = there is none; NaN = there may be some, of unknown mass."""
    bound: float = -math.inf
    """No logit of the rest is above this. Candidates at the bound precede the rest in the total order."""
    bound_weight: float = 0.0
    """The same of a row of weights."""

    @property
    def has_rest(self) -> bool:
        """Something that was not sent may have positive probability."""
        return self.rest != -math.inf

    def as_logits(self) -> Known:
        """Forget that a row was one of weights: its logits are ln w as float32, to be adjusted."""
        if self.weights is None:
            return self
        with np.errstate(divide="ignore"):
            logits = np.asarray(arithmetic.ln(self.weights), np.float32).astype(np.float64)
        bound = self.bound
        if self.has_rest:
            bound = float(np.float32(arithmetic.ln(self.bound_weight)))
        return replace(self, logits=logits, weights=None, bound=bound)

    def lowered_rest(self) -> Known:
        """Forget the rest's mass, after something unknown was taken from it."""
        return replace(self, rest=math.nan) if self.has_rest else self

    def positions(self, ids: Iterable[int]) -> tuple[list[int], list[int]]:
        """Where `ids` stand among the known, and which of them do not."""
        where = {int(token): at for at, token in enumerate(self.ids)}
        wanted = list(ids)
        return [where[token] for token in wanted if token in where], [t for t in wanted if t not in where]


def mask(row: Known, params: SamplingParams) -> Known:
    """Step 2: only tokens that are allowed and not forbidden keep their logits."""
    has_list = params.allowed_tokens is not None or params.token_bitmask is not None
    forbidden = _forbidden(params)
    if not has_list and not forbidden:
        return row
    is_allowed = np.full(row.vocab_size, not has_list)
    if params.allowed_tokens is not None:
        is_allowed[params.allowed_tokens] = True
    if params.token_bitmask is not None:
        bits = _bits(params.token_bitmask)[: row.vocab_size]
        is_allowed[: len(bits)] |= bits
    is_allowed[forbidden] = False
    allowed = is_allowed[row.ids]
    weights = None if row.weights is None else np.where(allowed, row.weights, 0.0)
    masked = replace(row, logits=np.where(allowed, row.logits, -math.inf), weights=weights)
    is_unsent = np.ones(row.vocab_size, bool)
    is_unsent[row.ids] = False
    if not (is_allowed & is_unsent).any():
        return replace(masked, rest=-math.inf)
    return masked if is_allowed[is_unsent].all() else masked.lowered_rest()


def _forbidden(params: SamplingParams) -> list[int]:
    """List the tokens that no_repeat_ngram_size and bad_words forbid."""
    history = _history(params)
    forbidden: set[int] = set()
    if params.no_repeat_ngram_size:
        forbidden |= last_of_ngrams(history, params.no_repeat_ngram_size)
    if params.bad_words_ids is not None:
        begin = first_in_scope(len(history), params.bad_words_scope, params.prompt_length, 0)
        forbidden |= last_of_bad_words(history[begin:], sequences(params.bad_words_ids, params.bad_words_ends))
    return sorted(forbidden)


def _history(params: SamplingParams) -> list[int]:
    return [] if params.history is None else params.history.tolist()


def _bits(words: Buffer) -> NDArray[np.bool_]:
    """Bit j of the mask: bit j mod 32, from the least significant, of word j div 32."""
    return np.unpackbits(np.frombuffer(words, np.uint8), bitorder="little").astype(bool)


def bias(row: Known, params: SamplingParams) -> Known:
    """Step 3: the amounts of logit_bias are added."""
    if params.bias_ids is None or params.bias_values is None:
        return row
    row = row.as_logits()
    amounts = dict(zip(params.bias_ids.tolist(), params.bias_values.tolist(), strict=True))
    logits = row.logits.copy()
    at, unsent = row.positions(amounts)
    for position in at:
        logits[position] = _rounded(_saturate(logits[position] + amounts[int(row.ids[position])]))
    biased = replace(row, logits=logits)
    return _touch_rest(biased, [amounts[token] for token in unsent])


def penalise(row: Known, params: SamplingParams) -> Known:
    """Step 4: repetition, frequency and presence penalties, then DRY, in this order."""
    if not _history(params):
        return row
    if has_token_penalties(params):
        row = _penalise_tokens(row.as_logits(), params)
    if params.dry is not None and params.dry.multiplier > 0:
        row = _penalise_repeats(row.as_logits(), params.dry, _history(params))
    return row


def _penalise_tokens(row: Known, params: SamplingParams) -> Known:
    """Apply repetition, frequency and presence penalties to the tokens in the scope of each."""
    history = _history(params)

    def in_scope(scope: PenaltyScope) -> list[int]:
        return history[first_in_scope(len(history), scope, params.prompt_length, params.penalty_range) :]

    repeated = set(in_scope(params.repetition_scope))
    counts = Counter(in_scope(params.frequency_scope))
    present = set(in_scope(params.presence_scope))
    logits, changes = row.logits.copy(), []
    at, unsent = row.positions(repeated | counts.keys() | present)
    for position in at:
        token, logit = int(row.ids[position]), float(logits[position])
        if logit == -math.inf:
            continue
        if token in repeated:
            logit = logit / params.repetition_penalty if logit > 0 else logit * params.repetition_penalty
        logit = _clamp(logit) - counts[token] * params.frequency_penalty
        logits[position] = _rounded(_clamp(logit - (params.presence_penalty if token in present else 0.0)))
    for token in unsent:
        changes.append(1.0 - params.repetition_penalty if token in repeated else 0.0)
        presence = params.presence_penalty if token in present else 0.0
        changes.append(-(counts[token] * params.frequency_penalty + presence))
    return _touch_rest(replace(row, logits=logits), changes)


def _penalise_repeats(row: Known, dry: Dry, history: list[int]) -> Known:
    """Apply DRY."""
    amounts = dry_penalties(
        history[-dry.range :],  # a range of 0 is all
        multiplier=dry.multiplier,
        base=dry.base,
        allowed_length=0 if dry.allow_no_repeat else dry.allowed_length,
        breakers=set() if dry.sequence_breakers is None else set(dry.sequence_breakers.tolist()),
        sequences=sequences(dry.breaker_sequences_ids, dry.breaker_sequences_ends),
    )
    logits = row.logits.copy()
    at, unsent = row.positions(amounts)
    for position in at:
        logits[position] = _rounded(_saturate(logits[position] - amounts[int(row.ids[position])]))
    return _touch_rest(replace(row, logits=logits), [-amounts[token] for token in unsent])


def _rounded(logit: float) -> float:
    """Round to float32."""
    return float(np.float32(logit))


def _saturate(logit: float) -> float:
    """Keep a finite logit within float32; -inf stays."""
    return logit if logit == -math.inf else _clamp(logit)


def _clamp(logit: float) -> float:
    """Bring what became of a finite logit into float32."""
    return min(max(logit, -LARGEST), LARGEST)


def _touch_rest(row: Known, changes: list[float]) -> Known:
    """Account for logits of the rest that moved in the direction of `changes` (0 = not at all)."""
    if not row.has_rest or not any(changes):
        return row
    if any(change > 0 for change in changes):
        raise Undecidable
    return row.lowered_rest()
