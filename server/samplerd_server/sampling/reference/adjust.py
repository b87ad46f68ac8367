"""The reference, steps 2 to 4: mask, bias and penalties applied to the logits of one row. Numpy, float64.

A row is known in full, or by its candidates: then the categories that were not sent, the rest, have a known total mass
and a known upper bound, the smallest logit sent. An adjustment that touches the rest leaves the bound standing if it
can only lower logits, and makes the mass unknown; one that may raise them leaves nothing to say (`Undecidable`).

Adjusted logits saturate: a finite logit stays finite, within the range of float32, whatever is added to it; only a bias
of -inf and the mask make -inf. Weights (INPUT_KIND_PROBABILITIES) are adjusted as ln w, as sent.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from samplerd_server.sampling.dry import LARGEST, dry_penalties

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from samplerd_server.core.entity import Buffer
    from samplerd_server.core.params import SamplingParams

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
    rest: float = -math.inf
    """ln of the rest's mass; -inf = there is none; NaN = there may be some, of unknown mass."""
    bound: float = -math.inf
    """No logit of the rest is above this. Candidates at the bound precede the rest in the total order."""

    @property
    def has_rest(self) -> bool:
        """Something that was not sent may have positive probability."""
        return self.rest != -math.inf

    def lowered_rest(self) -> Known:
        """Forget the rest's mass, after something unknown was taken from it."""
        return replace(self, rest=math.nan) if self.has_rest else self

    def positions(self, ids: Iterable[int]) -> tuple[list[int], list[int]]:
        """Where `ids` stand among the known, and which of them do not."""
        where = {int(token): at for at, token in enumerate(self.ids)}
        wanted = list(ids)
        return [where[token] for token in wanted if token in where], [t for t in wanted if t not in where]


def mask(row: Known, params: SamplingParams) -> Known:
    """Step 2: only allowed tokens keep their logits."""
    if params.allowed_tokens is None and params.token_bitmask is None:
        return row
    is_allowed = np.zeros(row.vocab_size, bool)
    if params.allowed_tokens is not None:
        is_allowed[params.allowed_tokens] = True
    if params.token_bitmask is not None:
        bits = _bits(params.token_bitmask)[: row.vocab_size]
        is_allowed[: len(bits)] |= bits
    masked = replace(row, logits=np.where(is_allowed[row.ids], row.logits, -math.inf))
    is_unsent = np.ones(row.vocab_size, bool)
    is_unsent[row.ids] = False
    if not (is_allowed & is_unsent).any():
        return replace(masked, rest=-math.inf)
    return masked if is_allowed[is_unsent].all() else masked.lowered_rest()


def _bits(words: Buffer) -> NDArray[np.bool_]:
    """Bit j of the mask: bit j mod 32, from the least significant, of word j div 32."""
    return np.unpackbits(np.frombuffer(words, np.uint8), bitorder="little").astype(bool)


def bias(row: Known, params: SamplingParams) -> Known:
    """Step 3: the amounts of logit_bias are added."""
    if params.bias_ids is None or params.bias_values is None:
        return row
    amounts = dict(zip(params.bias_ids.tolist(), params.bias_values.tolist(), strict=True))
    logits = row.logits.copy()
    at, unsent = row.positions(amounts)
    for position in at:
        logits[position] = _saturate(logits[position] + amounts[int(row.ids[position])])
    biased = replace(row, logits=logits)
    return _touch_rest(biased, [amounts[token] for token in unsent])


def penalise(row: Known, params: SamplingParams) -> Known:
    """Step 4: repetition, frequency and presence penalties, then DRY, in this order."""
    if params.history is None:
        return row
    history = params.history.tolist()
    logits = row.logits.copy()
    counts = Counter(history)
    at, unsent = row.positions(counts)
    for position in at:
        count, logit = counts[int(row.ids[position])], logits[position]
        if logit == -math.inf:
            continue
        logit = logit / params.repetition_penalty if logit > 0 else logit * params.repetition_penalty
        logit = _saturate(logit) - count * params.frequency_penalty - params.presence_penalty
        logits[position] = _saturate(logit)
    changes = [-(counts[token] * params.frequency_penalty + params.presence_penalty) for token in unsent]
    changes += [1.0 - params.repetition_penalty for _ in unsent]
    if params.dry is not None and params.dry.multiplier > 0:
        breakers = params.dry.sequence_breakers
        amounts = dry_penalties(
            history[-params.dry.range :],  # a range of 0 is all
            multiplier=params.dry.multiplier,
            base=params.dry.base,
            allowed_length=params.dry.allowed_length,
            breakers=set() if breakers is None else set(breakers.tolist()),
        )
        at, unsent = row.positions(amounts)
        for position in at:
            logits[position] = _saturate(logits[position] - amounts[int(row.ids[position])])
        changes += [-amounts[token] for token in unsent]
    return _touch_rest(replace(row, logits=logits), changes)


def _saturate(logit: float) -> float:
    """Keep a finite logit within float32; -inf stays."""
    return logit if logit == -math.inf else min(max(logit, -LARGEST), LARGEST)


def _touch_rest(row: Known, changes: list[float]) -> Known:
    """Account for logits of the rest that moved in the direction of `changes` (0 = not at all)."""
    if not row.has_rest or not any(changes):
        return row
    if any(change > 0 for change in changes):
        raise Undecidable
    return row.lowered_rest()
