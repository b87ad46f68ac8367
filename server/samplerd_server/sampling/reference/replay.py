"""The reference, step 8 once more: each draw of a reply with its uniform, and the interval of sums that holds it.

Law. With masses m_i >= 0 in ascending order of id and c_i their sums, the draw is the first id with c_i > u c_V: that
whose interval [c_(i-1), c_i) / c_V holds u. Without replacement the masses are those that the draws before it left.

Each draw is judged by itself. Where the reply has the neighbour of an id, which is legal within rounding of the
boundary between them, what is left for the next draw is what the reply left.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from samplerd_server.core.enums import RowErrorReason
from samplerd_server.core.rows import CandidateRows
from samplerd_server.sampling.noise import Purpose, uniform, uniforms
from samplerd_server.sampling.reference import pipeline

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samplerd_server.core.params import SamplingParams
    from samplerd_server.core.request import SampleRequest
    from samplerd_server.sampling.reference.filters import FilterState
    from samplerd_server.sampling.reference.pipeline import RowOutcome

__all__ = ["ROUNDING", "RowReplay", "replay"]

ROUNDING = 1e-6
"""How far from a boundary, as a share of all mass, float32 sums can put a draw on the other side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowReplay:
    """The draws of one row; none of a row that fails."""

    outcome: RowOutcome
    params: SamplingParams
    seed: int
    """The key of the row's noise."""
    row_index: int
    """The third word of the counter."""
    uniforms: NDArray[np.float64]
    """float64[S], in (0, 1); a greedy row does not use them."""
    ids: NDArray[np.int64]
    """int64[S]: what is drawn, given what the reply drew before."""
    lower: NDArray[np.float64]
    """float64[S]: where the interval of the id begins, as a share of all mass; it contains this end."""
    upper: NDArray[np.float64]
    """float64[S]: where the interval ends; it does not contain this end."""
    follows: NDArray[np.bool_]
    """bool[S]: the reply's id is this one, or its neighbour within `ROUNDING` of the boundary."""
    xtc_uniform: float | None
    """Decides whether XTC acts, if it is on."""


def replay(request: SampleRequest, replied: NDArray[np.int64]) -> list[RowReplay]:
    """Draw a request again.

    Args: request, with the seed that its reply names; replied, int64[B, S], the samples of the reply.
    """
    # With replacement a row's law is that of one draw. Everything else looks at all samples.
    is_each_alone = (
        request.with_replacement
        and not isinstance(request.source, CandidateRows)
        and not request.outputs.adaptive_state
    )
    outcomes = pipeline.sample(replace(request, num_samples=1) if is_each_alone else request)
    return [_replay_row(request, row, outcome, replied[row]) for row, outcome in enumerate(outcomes)]


def _replay_row(request: SampleRequest, row: int, outcome: RowOutcome, replied: NDArray[np.int64]) -> RowReplay:
    params = request.params[row] if len(request.params) > 1 else request.params[0]
    seed = request.seed if request.row_seeds is None else int(request.row_seeds[row])
    row_index = row if request.row_seeds is None else 0
    state = outcome.processed
    count = request.num_samples if outcome.reason is RowErrorReason.NONE and state is not None else 0
    index = np.arange(count, dtype=np.uint64) + np.uint64(request.draw_offset)
    noise = uniforms(np.array([seed], np.uint64), index, np.array([row_index], np.uint64))
    if state is None or count == 0:
        draws = _Draws(np.empty(0, np.int64), np.empty(0), np.empty(0), np.empty(0, bool))
    elif params.is_greedy:
        draws = _greedy(outcome, count, replied)
    elif request.with_replacement:
        draws = _locate(_Sums(state), noise, replied)
    else:
        draws = _successive(state, noise, replied)
    has_xtc = params.xtc_probability > 0
    return RowReplay(
        outcome=outcome,
        params=params,
        seed=seed,
        row_index=row_index,
        uniforms=noise,
        ids=draws.ids,
        lower=draws.lower,
        upper=draws.upper,
        follows=draws.follows,
        xtc_uniform=uniform(seed, request.draw_offset, row_index, Purpose.XTC) if has_xtc else None,
    )


class _Draws(NamedTuple):
    ids: NDArray[np.int64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    follows: NDArray[np.bool_]


class _Sums:
    """Cumulative sums of what may still be drawn, in ascending order of id."""

    def __init__(self, state: FilterState) -> None:
        by_id = np.argsort(state.ids)
        self.ids = state.ids[by_id]
        self._logits, self._temperature = state.logits[by_id], state.temperature
        self._is_left, self._rest = state.kept[by_id].copy(), state.rest
        self._set(state.own[by_id])

    def _set(self, masses: NDArray[np.float64]) -> None:
        self.masses, self.sums = masses, np.cumsum(masses)
        self.total = float(self.sums[-1]) + self._rest

    def at(self, u: NDArray[np.float64]) -> NDArray[np.int64]:
        """Find where the draws of these uniforms stand in `ids`."""
        found = np.searchsorted(self.sums, u * self.total, side="right")
        places: NDArray[np.int64] = np.minimum(found, np.flatnonzero(self.masses > 0)[-1]).astype(np.int64)
        return places

    def place(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Find where ids stand in `ids`, and which of them may be drawn."""
        places = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1).astype(np.int64)
        return places, (self.ids[places] == ids) & (self.masses[places] > 0)

    def interval(self, places: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Give the interval of each place, as shares of all mass."""
        ends = self.sums[places]
        begins = np.where(places > 0, self.sums[np.maximum(places - 1, 0)], 0.0)
        return begins / self.total, ends / self.total

    def take(self, place: int) -> None:
        """Take what was drawn out, and weigh what is left again, so that nothing underflows."""
        self._is_left[place] = False
        if not self._is_left.any():
            return
        masses = np.where(self._is_left, self.masses, 0.0)
        if self._rest == 0 and self._temperature > 0:
            with np.errstate(over="ignore"):
                gaps = (self._logits - self._logits[self._is_left].max()) / self._temperature
                masses = np.where(self._is_left, np.exp(gaps), 0.0)
        elif self._temperature == 0:
            first = int(np.argmax(np.where(self._is_left, self._logits, -np.inf)))
            masses = np.where(np.arange(len(self.ids)) == first, 1.0, 0.0)
        self._set(masses)


def _locate(sums: _Sums, noise: NDArray[np.float64], replied: NDArray[np.int64]) -> _Draws:
    places = sums.at(noise)
    lower, upper = sums.interval(places)
    theirs, may_be = sums.place(replied)
    begin, end = sums.interval(theirs)
    near = (noise >= begin - ROUNDING) & (noise < end + ROUNDING)
    ids = sums.ids[places]
    return _Draws(ids, lower, upper, (replied == ids) | (may_be & near))


def _successive(state: FilterState, noise: NDArray[np.float64], replied: NDArray[np.int64]) -> _Draws:
    sums = _Sums(state)
    draws = []
    for draw in range(len(noise)):
        own = _locate(sums, noise[draw : draw + 1], replied[draw : draw + 1])
        taken = replied[draw : draw + 1] if own.follows[0] else own.ids
        draws.append(own)
        sums.take(int(sums.place(taken)[0][0]))
    return _Draws(*(np.concatenate(part) for part in zip(*draws, strict=True)))


def _greedy(outcome: RowOutcome, count: int, replied: NDArray[np.int64]) -> _Draws:
    ids = np.array(outcome.samples if len(outcome.samples) == count else outcome.samples * count, np.int64)
    return _Draws(ids, np.zeros(count), np.ones(count), replied == ids)
