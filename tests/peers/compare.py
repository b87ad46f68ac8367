"""One row of a peer beside the reference: the same, different by a named rule, or unexplained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tests.peers.cases import ORDERS
from tests.peers.model import Walk, band, direct, mass_error, walk

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tests.peers.systems import System

__all__ = ["SAME", "compare"]

SAME = "same"
_FLOAT32 = "float32: the cut lies within the stated error of the last category"
_UNDERFLOW = "float32: probabilities below 2^-126 are 0"
_PASSED = "top_p of 1 acts all the same: a float32 sum of what comes before is above 1"
_UNITS = "top_h: a row is so nearly certain that what differs weighs few of the whole units that masses are counted in"
_STEPS = "the order of the steps"
_NAN = "typical_p: the entropy is not a number, since an earlier step left a probability of 0"


def compare(
    row: NDArray[np.float32],
    drawn: dict[str, Any],
    system: System,
    weights: NDArray[np.float64],
    expected: NDArray[np.float64] | None = None,
) -> str:
    """Say why what the peer keeps is what it is, or raise.

    `expected`, float64[V], is what the reference draws from under a preset; without it, under the system's order alone.

    Raises:
        AssertionError: no rule explains a difference of what is kept, or of its probabilities.

    """
    peer = weights > 0
    is_in_order = expected is not None or system.name in ORDERS
    expected = direct(row, drawn, system) if expected is None else expected
    verdict = SAME if is_in_order and (peer == (expected > 0)).all() else _kept(row, drawn, system, peer, expected)
    if verdict != SAME and "dynamic_temperature_range" in drawn:  # its entropy is of what is kept
        return verdict
    both = peer & (expected > 0)
    error = _error(row, drawn)
    worst = _worst(weights[both], expected[both])
    if worst > error:
        ruled = walk(row, drawn, system, peer).probabilities
        both = peer & (ruled > 0)
        worst = _worst(weights[both], ruled[both])
        verdict = _STEPS
    assert worst <= error, f"a probability differs by {worst:.2g} of itself, {error:.2g} allowed: {drawn}"
    return verdict


def _kept(
    row: NDArray[np.float32],
    drawn: dict[str, Any],
    system: System,
    peer: NDArray[np.bool_],
    expected: NDArray[np.float64],
) -> str:
    state = walk(row, drawn, system, peer)
    if (peer == state.kept).all():
        return "; ".join(sorted(state.rules)) or (SAME if (peer == (expected > 0)).all() else _STEPS)
    if not peer[(expected > 0) & (expected >= 2.0**-126)].all() and system.name == "llama.cpp" and _has_nan(drawn):
        return _NAN
    if (peer <= state.kept).all() and (state.probabilities[state.kept & ~peer] < 2.0**-126).all():
        return _UNDERFLOW
    if "top_h" in drawn and _weigh_few_units(state, peer != state.kept):
        return _UNITS
    if "joint" in system.steps and "top_p" not in drawn and _only_a_tail_is_gone(state, peer):
        return _PASSED
    always, sometimes = band(row, drawn, system, peer)
    ours, ruled, theirs = (np.flatnonzero(kept).tolist() for kept in (expected, state.kept, peer))
    assert ((always <= peer) & (peer <= sometimes)).all(), (
        f"{system.title} keeps {theirs}, the reference {ours}, with the system's rules {ruled}: {drawn}, row "
        f"{row.tolist()[:64]}"
    )
    return "; ".join([*sorted(state.rules), _FLOAT32])


def _only_a_tail_is_gone(state: Walk, peer: NDArray[np.bool_]) -> bool:
    """Whether all that the peer lacks stands behind a mass that float32 cannot tell from 1."""
    gone = state.kept & ~peer
    scaled = state.logits.astype(np.float64) / state.temperature
    masses = np.exp(scaled - scaled.max())
    order = np.argsort(-scaled, kind="stable")
    before = np.empty(len(masses))
    before[order] = np.cumsum(masses[order]) - masses[order]
    return bool((peer <= state.kept).all() and (before[gone] / masses.sum() > 1 - mass_error(len(masses))).all())


def _weigh_few_units(state: Walk, differing: NDArray[np.bool_]) -> bool:
    """Whether categories have at most 8 units of mass, 2^-40 of the largest: rule 1 of `sampling.masses`."""
    scaled = state.logits.astype(np.float64) / state.temperature
    return bool((scaled[differing] - scaled.max() < -40 * np.log(2)).all())


def _has_nan(drawn: dict[str, Any]) -> bool:
    return "typical_p" in drawn and bool({"top_n_sigma", "logit_bias"} & drawn.keys())


def _error(row: NDArray[np.float32], drawn: dict[str, Any]) -> float:
    """How far float32 may take a ratio of two probabilities: by the rounding of the largest logit over T."""
    lowest = min(1.0, drawn.get("temperature", 1.0) - drawn.get("dynamic_temperature_range", 0.0))
    largest = float(np.abs(row[np.isfinite(row)]).max()) + sum(abs(bias) for _, bias in drawn.get("logit_bias", []))
    if "guidance_row" in drawn:
        own = np.abs(drawn["guidance_row"]).max()
        largest = (1 + abs(drawn["guidance_scale"])) * float(largest + own + np.log(len(row)))
    if "history" in drawn:  # a penalty of at most 80, since a probability below e^-80 is not looked at
        largest = (largest + 80) * max(1.0, drawn.get("repetition_penalty", 1.0))
    if "adaptive_target" in drawn:
        largest += 400 * lowest  # a logit moves by up to 33 for a probability, which is off by 2^-20
    dynamic = 320 * mass_error(len(row)) if "dynamic_temperature_range" in drawn else 0.0  # an entropy, then 80 / T
    return 2.0**-21 * (4 + largest / lowest) + dynamic


def _worst(weights: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    """The largest difference of two logarithms of ratios, where a float32 probability has all of its bits."""
    if len(weights) == 0:
        return 0.0
    ours = np.log(expected) - np.log(expected.max())
    theirs = np.log(weights) - np.log(weights[np.argmax(expected)])
    return float(np.abs(ours - theirs)[ours > -80].max())
