"""The reference: the law of every draw, one row at a time, in float64, written to be read (docs/sampling.md in code).

The pipeline: 0 decode, 1 check, guidance, 2 mask, 3 bias, 4 penalties, 5 greedy rows leave, 6 temperature and
7 filters, in the row's order, 8 draw.
Every faster sampler is tested against this one; nothing serves requests from it.

Where the law leaves something open, it is decided here:

* A greedy row (T = 0) draws its argmax; without replacement the S highest in order. Its ``scaled`` distribution is that
  of T = 1, since it left before the temperature (so its logprobs say something, as in vLLM); its ``processed``
  distribution is certainty, ln 1 = 0. Kept are the ids that are drawn. Where filters come before the temperature they
  judge the row at T = 1, and the argmax of what they keep is drawn; all else is as with any greedy row.
* The step of the temperature weighs what is kept again, relative to the largest of it; later filters judge at T.
* "Positive probability" means a logit above -inf, however small. Without replacement, what is left is renormalised
  before every draw, so that a category far below the range of binary64 is drawn once nothing else is left.
* XTC is decided once for a row, by the uniform of purpose XTC at draw index draw_offset. All S draws of a row share it,
  and so do its kept count and its processed logprobs. A row with XTC therefore is the one exception to "draws 0..9
  equal draws 0..4 and 5..9": give draw_offset = t at step t, one sample each.
* Dynamic temperature takes H at T = 1 of what it scales: the adjusted row, or what the filters before it kept. With one
  category H / ln V' counts as 0. Where T then is 0, filters after it judge the limit of T to 0, in which the equals of
  the largest share the mass; what is drawn is certainty of the first that is kept.
* Smoothing directly follows the temperature. After filters it bends what they kept, and for the ``scaled`` distribution
  the whole row.
* top_n lists categories with positive probability only; beyond them -1 and -inf.
* Candidates: they are taken to be the first of the total order. The rest stands after all of them in the cumulative sum
  of the draw, whatever its ids; a draw that falls there is OUTSIDE_CANDIDATES, and so is any filter that depends on it
  (`filters`). An output that depends on it is NaN (top_n: -1 and NaN; kept count and rank: 0).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from samplerd_server.core.enums import Dtype, InputKind, LogprobKind, RowErrorReason, Step
from samplerd_server.core.rows import CandidateRows
from samplerd_server.sampling.decode import decode, first_fault
from samplerd_server.sampling.noise import Purpose, uniform
from samplerd_server.sampling.parameters import steps_of
from samplerd_server.sampling.reference import adjust
from samplerd_server.sampling.reference.adjust import Known, Undecidable
from samplerd_server.sampling.reference.distribution import Distribution, in_order, processed, softmax, successive
from samplerd_server.sampling.reference.filters import FilterState, apply_filter
from samplerd_server.sampling.reference.guidance import guide
from samplerd_server.sampling.reference.shapes import shape
from samplerd_server.sampling.reference.temperature import heat, rebase, smooth, temperature_of
from samplerd_server.sampling.shapes import is_shaped

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samplerd_server.core.params import SamplingParams
    from samplerd_server.core.request import SampleRequest
    from samplerd_server.core.rows import DenseRows, StoredRows

__all__ = ["Distribution", "RowOutcome", "failure", "find", "judge", "sample"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowOutcome:
    """The outcome of one row."""

    reason: RowErrorReason = RowErrorReason.NONE
    detail: int = 0
    """See `sampling.rows.RowResults.detail`."""
    samples: tuple[int, ...] = ()
    logprobs: dict[LogprobKind, list[float]] = field(default_factory=dict)
    """Of the samples; without replacement the conditional ones."""
    ranks: list[int] = field(default_factory=list)
    distributions: dict[LogprobKind, Distribution] = field(default_factory=dict)
    """Of the row, before any draw."""
    kept_count: int = 0
    kept_mass: float = math.nan
    unshaped: list[float] = field(default_factory=list)
    """The probabilities of the samples before adaptive-p or skew, among what was kept; 1 at a temperature of 0."""
    order: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """The ids in the total order of the scaled row, as far as it is known."""
    is_reordered: bool = False
    """The processed distribution has an order of its own."""
    processed: FilterState | None = None
    """What the filters kept, with the masses that were drawn from."""

    raw_order: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """The ids in the total order of the row as sent."""

    def top(self, kind: LogprobKind, n: int) -> tuple[list[int], list[float]]:
        """List the most likely n ids of one kind, with ln p; -1 beyond them."""
        own = self.distributions[kind]
        order = self.raw_order if kind == LogprobKind.RAW else self.order
        if kind == LogprobKind.PROCESSED and self.is_reordered:
            # Logits tell apart what has the same log-probability in float64.
            finer = own.logprobs if own.logits is None else own.logits
            order = own.ids[np.lexsort((own.ids, -finer, -own.logprobs))]
        ids = [int(token) for token in order if own.of(int(token)) != -math.inf][:n]
        beyond = -math.inf if own.rest == 0 else math.nan
        missing = n - len(ids)
        return ids + [-1] * missing, [own.of(token) for token in ids] + [beyond] * missing


def failure(reason: RowErrorReason, detail: int = 0) -> RowOutcome:
    """Make the outcome of a row that failed."""
    return RowOutcome(reason=reason, detail=detail)


def sample(request: SampleRequest) -> list[RowOutcome]:
    """Draw from every row of a request."""
    outcomes = []
    for row in range(request.rows):
        params = request.params[row] if len(request.params) > 1 else request.params[0]
        try:
            outcomes.append(_sample_row(request, row, params))
        except Undecidable:
            outcomes.append(failure(RowErrorReason.OUTSIDE_CANDIDATES))
    return outcomes


def _read(request: SampleRequest, row: int) -> Known | RowOutcome:
    """Take steps 0 and 1: the row's logits, or why it has none."""
    source = request.source
    if isinstance(source, CandidateRows):
        own = source.candidates[row]
        data, dtype, rest = own.logits.tobytes(), Dtype.F32, own.rest_logsumexp
        ids = own.ids.astype(np.int64)
    else:
        data, dtype, rest = _bytes_of(source, row), source.dtype, -math.inf
        ids = np.arange(source.vocab_size)
    fault = first_fault(data, dtype, request.kind)
    if fault is not None:
        return failure(*fault)
    by_id = np.argsort(ids)
    logits, weights = decode(data, dtype).astype(np.float64)[by_id], None
    if request.kind == InputKind.PROBABILITIES:
        weights = logits
        with np.errstate(divide="ignore"):
            logits = np.log(weights)
    bound = float(logits.min()) if rest != -math.inf else -math.inf
    return Known(
        ids=ids[by_id],
        logits=logits,
        weights=weights,
        vocab_size=source.vocab_size,
        rest=rest,
        bound=bound,
        bound_weight=0.0 if weights is None else float(weights.min()),
    )


def _bytes_of(rows: DenseRows | StoredRows, row: int) -> bytes:
    size = rows.vocab_size * rows.dtype.itemsize
    return bytes(rows.data[row * size : (row + 1) * size])


def _guide(request: SampleRequest, row: int, raw: Known, scale: float) -> Known | RowOutcome:
    """Take the step of guidance: the guided row, or what is wrong with its guidance row."""
    source, rows = request.source, request.guidance
    if scale == 1 or rows is None or isinstance(source, CandidateRows):
        return raw
    data = _bytes_of(rows, row)
    fault = first_fault(data, rows.dtype, request.kind)
    if fault is not None:
        reason, token = fault
        return failure(reason, -1 - token)
    is_weights = request.kind == InputKind.PROBABILITIES
    own, other = decode(_bytes_of(source, row), source.dtype), decode(data, rows.dtype)
    return replace(raw, logits=guide(own, other, scale, is_weights=is_weights), weights=None)


def judge(raw: Known, guided: Known, params: SamplingParams) -> tuple[Known, Step | None]:
    """Take steps 2 to 4: the adjusted row, and the step that left nothing to draw, if one did."""
    row, emptied_by = guided, None
    if not raw.has_rest and raw.logits.max() == -math.inf:
        emptied_by = Step.INPUT
    for step, apply in (
        (Step.GUIDANCE, lambda known, _: known),
        (Step.MASK, adjust.mask),
        (Step.BIAS, adjust.bias),
        (Step.PENALTIES, adjust.penalise),
    ):
        row = apply(row, params)
        if emptied_by is None and not row.has_rest and row.logits.max(initial=-math.inf) == -math.inf:
            emptied_by = step
    return row, emptied_by


def _sample_row(request: SampleRequest, row: int, params: SamplingParams) -> RowOutcome:
    raw = _read(request, row)
    if isinstance(raw, RowOutcome):
        return raw
    guided = _guide(request, row, raw, params.guidance_scale)
    if isinstance(guided, RowOutcome):
        return guided
    adjusted, emptied_by = judge(raw, guided, params)
    if emptied_by is not None:
        return failure(RowErrorReason.NOTHING_TO_DRAW, emptied_by)
    seed = request.seed if request.row_seeds is None else int(request.row_seeds[row])
    row_index = row if request.row_seeds is None else 0
    first, draws = request.draw_offset, request.num_samples
    state, scaled_row, temperature = _process(adjusted, params, uniform(seed, first, row_index, Purpose.XTC))
    before = None
    if params.is_greedy:
        state = state.first(1 if request.with_replacement else draws)
    else:
        state, before = shape(state, params, are_weights=scaled_row.weights is not None)
    scaled = softmax(scaled_row, temperature)
    drawn_from = processed(state, is_greedy=params.is_greedy)
    if not request.with_replacement and state.rest == 0 and state.count < draws:
        return failure(RowErrorReason.TOO_FEW_TO_DRAW, state.count)
    uniforms = [uniform(seed, first + draw, row_index) for draw in range(draws)]
    if params.is_greedy:
        samples = [int(token) for token in state.ids[state.kept]]
        samples = samples * draws if request.with_replacement else samples
    else:
        samples = _draw(state, uniforms, with_replacement=request.with_replacement)
    kinds = {LogprobKind.RAW: softmax(raw, 1.0), LogprobKind.SCALED: scaled, LogprobKind.PROCESSED: drawn_from}
    unknown = state.rest != 0
    mass = math.fsum(math.exp(scaled.of(int(token))) for token in state.ids[state.kept]) + (
        scaled.rest if unknown else 0
    )
    ranked = in_order(scaled_row, 1.0)
    certain = ranked.ids[: ranked.certain]
    return RowOutcome(
        samples=tuple(samples),
        logprobs={
            kind: successive(own, samples, is_certain=kind == LogprobKind.PROCESSED and params.is_greedy)
            if not request.with_replacement
            else [own.of(token) for token in samples]
            for kind, own in kinds.items()
        },
        ranks=[1 + certain.tolist().index(token) if token in certain else 0 for token in samples],
        distributions=kinds,
        kept_count=0 if unknown else state.count,
        kept_mass=min(mass, 1.0),
        unshaped=[1.0 if before is None else float(before[state.ids == token][0]) for token in samples],
        order=certain,
        raw_order=raw.ids[np.lexsort((raw.ids, -raw.logits))],
        is_reordered=(params.smoothing_factor > 0 or bool(is_shaped(params))) and not params.is_greedy,
        processed=state,
    )


def _process(row: Known, params: SamplingParams, xtc_uniform: float) -> tuple[FilterState, Known, float]:
    """Take steps 6 and 7 in the order asked for: what is kept, with its masses; and the scaled row with its T.

    With T = 0 no step after the temperature changes anything: what there is then is returned, as it is at T = 1.
    """
    state, scaled, temperature = in_order(row, 1.0), row, 1.0
    unfiltered = state
    for name in steps_of(params):
        if name != "temperature":
            state = apply_filter(name, state, params, unfiltered, xtc_uniform)
            continue
        if params.is_greedy:
            break
        temperature = temperature_of(state, params)
        state = unfiltered = heat(row, state, temperature, params)
        scaled, temperature = smooth(row, temperature, params)
    return rebase(state), scaled, temperature


def find(masses: NDArray[np.float64], rest: float, u: float) -> int:
    """Find the first i with m_0 + .. + m_i > u x (sum of all and the rest); never one of zero mass."""
    sums = np.cumsum(masses)
    above = np.flatnonzero((sums > u * (sums[-1] + rest)) & (masses > 0))
    if len(above):
        return int(above[0])
    if rest != 0:
        raise Undecidable
    return int(np.flatnonzero(masses > 0)[-1])  # u x total was rounded up to the total


def _draw(state: FilterState, uniforms: list[float], *, with_replacement: bool) -> list[int]:
    """Step 8: ids in ascending order, masses cumulated, one uniform a draw."""
    if math.isnan(state.rest):
        raise Undecidable
    by_id = np.argsort(state.ids)
    ids, logits, masses, rest = state.ids[by_id], state.logits[by_id], state.own[by_id], state.rest
    is_left, temperature = state.kept[by_id].copy(), state.temperature
    samples = []
    for u in uniforms:
        at = find(masses, rest, u)
        samples.append(int(ids[at]))
        if with_replacement:
            continue
        is_left[at] = False
        masses[at] = 0.0
        if rest == 0 and is_left.any() and temperature > 0:  # rescale, so that nothing underflows
            with np.errstate(over="ignore"):
                masses = np.where(is_left, np.exp((logits - logits[is_left].max()) / temperature), 0.0)
        elif temperature == 0 and is_left.any():
            masses = np.where(np.arange(len(ids)) == np.argmax(np.where(is_left, logits, -math.inf)), 1.0, 0.0)
    return samples
