"""The reference, one step at a time in a system's order, with the system's named rules between the steps.

The rules are those of `systems.System`: which ties a filter keeps, whether it takes one more where a mass is reached
exactly, the order of the steps. Each rule that changes what is kept is named in the answer. What no rule explains may
still be the peer's arithmetic: `band` says what could be kept when every cut is moved by the stated error of float32.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from samplerd_server.core.enums import Dtype, LogprobKind, Order
from samplerd_server.core.rows import DenseRows
from samplerd_server.sampling.reference import pipeline
from samplerd_server.sampling.reference.adjust import Known
from tests.peers.cases import ORDERS, parameters
from tests.support.requests import request

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samplerd_server.core.params import SamplingParams
    from tests.peers.systems import System

__all__ = ["Walk", "band", "direct", "mass_error", "sample", "walk"]

_ADJUSTMENTS = {
    **{name: (name,) for name in ("logit_bias", "dry", "allowed_tokens", "no_repeat_ngram_size", "bad_words")},
    **{name: (name, "penalty_range") for name in ("repetition_penalty", "frequency_penalty", "presence_penalty")},
}
_FILTERS = {
    **{name: (name,) for name in ("top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")},
    "top_n_sigma": ("top_n_sigma",),
    "top_h": ("top_h",),
    "xtc": ("xtc_threshold", "xtc_probability", "xtc_exempt_ids"),
    "joint": ("top_k", "top_p"),
}
_FIRST = 100
"""transformers: `TopHLogitsWarper.top_n`."""
_EXACT = 1e-12
"""A mass this near a cut reached it: masses are whole multiples of 2^-43 of the largest."""


@dataclass(slots=True)
class Walk:
    """Where a row has got to."""

    logits: NDArray[np.float32]
    """float32[V], adjusted."""
    kept: NDArray[np.bool_]
    """bool[V]."""
    temperature: float = 1.0
    rules: set[str] = field(default_factory=set)
    """Those that changed what is kept."""
    near: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    """bool[V]: categories that float32 may exchange with the last one kept."""

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Of what is kept, float64[V]."""
        scaled = np.where(self.kept, self.logits.astype(np.float64) / self.temperature, -np.inf)
        masses = np.exp(scaled - scaled.max())
        return masses / masses.sum()


def direct(row: NDArray[np.float32], drawn: dict[str, Any], system: System) -> NDArray[np.float64]:
    """Ask the reference for all of it at once, in the order that is the system's: float64[V], 0 = dropped."""
    return sample(row, parameters(drawn, system, ORDERS.get(system.name, Order.LLAMA_CPP)), drawn.get("guidance_row"))


def sample(row: NDArray[np.float32], own: SamplingParams, guidance: list[float] | None) -> NDArray[np.float64]:
    """Ask the reference what a row is drawn from: float64[V], 0 = dropped."""
    outcome = pipeline.sample(request(row[None], params=(own,), guidance=_guidance(guidance)))[0]
    processed = outcome.distributions[LogprobKind.PROCESSED]
    answer = np.zeros(len(row))
    answer[processed.ids] = np.exp(processed.logprobs)
    assert outcome.processed is not None
    is_kept = np.zeros(len(row), bool)
    is_kept[outcome.processed.ids[outcome.processed.kept]] = True
    return np.where(is_kept, np.maximum(answer, 1e-300), 0.0)


def _guidance(row: list[float] | None) -> DenseRows | None:
    if row is None:
        return None
    data = np.array(row, np.float32)
    return DenseRows(dtype=Dtype.F32, rows=1, vocab_size=len(data), data=data.tobytes())


def walk(
    row: NDArray[np.float32], drawn: dict[str, Any], system: System, peer: NDArray[np.bool_], error: float = 0.0
) -> Walk:
    """Take the system's steps one by one. `peer` decides ties only where the system promises nothing about them."""
    state = Walk(logits=row, kept=np.isfinite(row), near=np.zeros(len(row), bool))
    for step in system.steps:
        if step in _ADJUSTMENTS and step in drawn:
            shared = {"history", "prompt_length", *_ADJUSTMENTS[step]}
            own = parameters({name: drawn[name] for name in shared & drawn.keys()}, system, Order.HUGGING_FACE)
            known = Known(ids=np.arange(len(row)), logits=state.logits.astype(np.float64), vocab_size=len(row))
            state.logits = pipeline.judge(known, known, own)[0].logits.astype(np.float32)
            state.kept &= np.isfinite(state.logits)
        elif step == "guidance" and "guidance_row" in drawn:
            own = parameters({"guidance_scale": drawn["guidance_scale"]}, system, Order.HUGGING_FACE)
            outcome = pipeline.sample(request(row[None], params=(own,), guidance=_guidance(drawn["guidance_row"])))[0]
            state.logits = outcome.distributions[LogprobKind.SCALED].logprobs.astype(np.float32)
        elif step == "temperature":
            state.temperature = drawn.get("temperature", 1.0)
        elif any(name in drawn for name in _FILTERS.get(step, ())):
            _filter(state, step, {name: drawn[name] for name in _FILTERS[step] if name in drawn}, system, peer, error)
    return state


def _ask(state: Walk, own: dict[str, Any], system: System, order: Order) -> NDArray[np.bool_]:
    """What one filter keeps of what is left, by the reference."""
    allowed = {"allowed_tokens": np.flatnonzero(state.kept).tolist()}
    fields = parameters({"temperature": state.temperature, **allowed, **own}, system, order)
    outcome = pipeline.sample(request(state.logits[None], params=(fields,)))[0]
    assert outcome.processed is not None
    kept = np.zeros(len(state.logits), bool)
    kept[outcome.processed.ids[outcome.processed.kept]] = True
    return kept


def _filter(state: Walk, step: str, own: dict[str, Any], system: System, peer: NDArray[np.bool_], error: float) -> None:
    """Apply one filter and the rules of the system about it."""
    order = Order.JOINT if step == "joint" else Order.HUGGING_FACE
    if step == "top_h" and state.kept.sum() > _FIRST:
        state.kept = _ask(state, {"top_k": _FIRST}, system, Order.HUGGING_FACE)
        state.rules.add(f"top_h looks at the first {_FIRST} alone")
    before, p = state.kept, state.probabilities
    kept = _ask(state, own, system, order)
    if step == "xtc":
        kept = _xtc_rules(state, own, kept, p, system, peer)
    elif step in {"top_k", "top_p", "typical_p", "top_h", "joint"}:
        kept = _prefix_rules(state, step, own, kept, p, system, peer, error)
    state.kept = kept & before


def _distance(state: Walk, step: str, p: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the filter sorts by, ascending; infinite for what is gone already."""
    with np.errstate(divide="ignore", invalid="ignore"):
        surprise = -np.log(p)
        if step == "typical_p":
            score = np.abs(surprise - np.nansum(np.where(p > 0, p * surprise, 0.0)))
        else:
            score = -state.logits.astype(np.float64) / state.temperature
    return np.where(state.kept, score, np.inf)


def _prefix_rules(  # the state of one filter
    state: Walk,
    step: str,
    own: dict[str, Any],
    kept: NDArray[np.bool_],
    p: NDArray[np.float64],
    system: System,
    peer: NDArray[np.bool_],
    error: float,
) -> NDArray[np.bool_]:
    """A filter that keeps the first of an order: one more where it is reached exactly, and ties at the cut."""
    distance = _distance(state, step, p)
    mass = own.get("top_p", own.get("typical_p", 1.0))
    by_count = step == "top_k" or (step == "joint" and kept.sum() >= own.get("top_k", len(kept)))
    if step in system.exceeds and not by_count and abs(p[kept].sum() - mass) < _EXACT:
        left = np.flatnonzero(~kept & np.isfinite(distance))
        if len(left):
            kept = kept.copy()
            kept[left[np.argmin(distance[left])]] = True
            state.rules.add(f"{step} takes one more where the mass is reached exactly")
    last = np.flatnonzero(kept)[np.argmax(distance[kept])]
    tied = state.kept & (state.logits == state.logits[last])
    state.near |= state.kept & ~tied & (np.abs(distance - distance[last]) <= error)  # equal logits stay equal
    if error and not by_count and system.ties.get(step) == "unspecified":
        state.near |= tied  # how many of them, when the cut moves, is any number too
    count = int((tied & kept).sum())
    kept_by_rule = kept & ~tied
    ties = system.ties.get(step, "lowest")
    if ties == "all":
        kept_by_rule |= tied
    elif ties == "highest":
        kept_by_rule[np.flatnonzero(tied)[-count:]] = True
    elif ties == "unspecified" and (tied & peer).sum() == count:
        kept_by_rule |= tied & peer
    else:
        return kept
    if (kept_by_rule != kept).any():
        state.rules.add(f"{step} keeps {ties} ties at its cut")
    return kept_by_rule


def _xtc_rules(
    state: Walk,
    own: dict[str, Any],
    kept: NDArray[np.bool_],
    p: NDArray[np.float64],
    system: System,
    peer: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """XTC: a category at the threshold may not count, and of equals the least likely one may be another, or all."""
    if "xtc" in system.exceeds and own["xtc_probability"] > 0:
        above = _ask(state, {**own, "xtc_threshold": own["xtc_threshold"] * (1 + _EXACT)}, system, Order.HUGGING_FACE)
        if (above != kept).any():
            state.rules.add("xtc does not count a category at the threshold")
            kept = above
    if (kept == state.kept).all():
        return kept
    first = np.flatnonzero(kept)[np.argmin(-p[kept])]
    tied = state.kept & (state.logits == state.logits[first])
    count = int((tied & kept).sum())
    ties = system.ties.get("xtc", "lowest")
    by_rule = kept & ~tied
    if ties == "all":
        by_rule |= tied
    elif ties == "unspecified" and (tied & peer).sum() == count:
        by_rule |= tied & peer
    else:
        return kept
    if (by_rule != kept).any():
        state.rules.add(f"xtc keeps {ties} ties of its least likely")
    return by_rule


def mass_error(size: int) -> float:
    """How far a float32 sum of that many probabilities may be off."""
    return float(2.0**-24 * (8 * np.sqrt(size) + 16))


def band(
    row: NDArray[np.float32], drawn: dict[str, Any], system: System, peer: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """What is kept, and what may be kept, when each cut is moved by the error of float32 either way.

    The error: a mass is a sum of V numbers, so `mass_error`; a logit over T is rounded to float32, so a
    ratio of masses is off by 2^-22 x (4 + largest abs(x) / T), and an entropy by both.
    """
    finite = row[np.isfinite(row)]
    lowest = min(1.0, drawn.get("temperature", 1.0))
    ratio = 2.0**-22 * (4 + 2 * float(np.abs(finite).max()) / lowest)
    mass = mass_error(len(row))
    entropy = 4 * (mass + ratio)
    sigma = mass + ratio / max(float(finite.std()), 1e-9)
    moves = {
        "top_p": lambda value, sign: float(np.clip(value + sign * mass, 1e-9, 1)),
        "typical_p": lambda value, sign: float(np.clip(value + sign * mass, 1e-9, 1)),
        "top_h": lambda value, sign: float(np.clip(value * (1 + sign * 4 * entropy), 1e-9, 1)),
        "min_p": lambda value, sign: min(1.0, value * (1 + sign * ratio)),
        "epsilon_cutoff": lambda value, sign: value * (1 + sign * (ratio + mass)),
        "eta_cutoff": lambda value, sign: value * (1 + sign * 4 * entropy),
        "xtc_threshold": lambda value, sign: value * (1 + sign * (ratio + mass)),
        "top_n_sigma": lambda value, sign: value + sign * sigma * (1 + value),
    }
    names = [name for name in moves if name in drawn]
    always, sometimes = np.ones(len(row), bool), np.zeros(len(row), bool)
    for signs in itertools.product((-1, 1), repeat=len(names)):
        moved = {name: moves[name](drawn[name], sign) for name, sign in zip(names, signs, strict=True)}
        state = walk(row, drawn | moved, system, peer, error=2 * entropy)
        always &= state.kept & ~state.near
        sometimes |= state.kept | state.near
    return always, sometimes
