"""Rows: random ones, and rows that lie on boundaries. Tests give the generators, with their seeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.peers.systems import System

__all__ = ["BOUNDARIES", "Boundary", "bfloat16_row", "boundaries", "random_row"]

SIZES = (6, 50, 400, 5_000)
SHARES = (0.34, 0.42, 0.235, 0.005)
"""How many of the random rows are of each size."""


def random_row(rng: np.random.Generator, vocab_size: int) -> np.ndarray:
    """Normal logits, flat or steep."""
    return rng.normal(scale=rng.choice([0.7, 1.5, 3.0]), size=vocab_size).astype(np.float32)


def _textbook(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Logits ln p of probabilities that are multiples of 0.05 (or of 1/16), shuffled, and p from the most likely on."""
    unit, parts = (0.05, 20) if rng.random() < 0.7 else (1 / 16, 16)
    count = int(rng.integers(3, 8))
    cuts = np.sort(rng.choice(np.arange(1, parts), count - 1, replace=False))
    p = np.diff([0, *cuts, parts]) * unit
    rng.shuffle(p)
    return np.log(p).astype(np.float32), np.sort(p)[::-1]


def bfloat16_row(rng: np.random.Generator) -> np.ndarray:
    """Normal logits as bfloat16 has them: equal numbers are common."""
    row = rng.normal(loc=rng.choice([0, 12]), scale=2, size=int(rng.choice([40, 300, 1_000]))).astype(np.float32)
    bits = row.view(np.uint32)
    return (((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16) << 16).astype(np.uint32).view(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Boundary:
    """A kind of row, with parameters that put it on a boundary."""

    name: str
    steps: tuple[str, ...]
    """The filters that a system must have for it."""
    draw: Callable[[np.random.Generator], tuple[np.ndarray, dict[str, Any]]]


def _prefix(name: str) -> Callable[[np.random.Generator], tuple[np.ndarray, dict[str, Any]]]:
    def draw(rng: np.random.Generator) -> tuple[np.ndarray, dict[str, Any]]:
        row, p = _textbook(rng)
        return row, {name: round(float(np.cumsum(p)[rng.integers(0, len(p) - 1)]), 4)}

    return draw


def _typical(rng: np.random.Generator) -> tuple[np.ndarray, dict[str, Any]]:
    row, p = _textbook(rng)
    score = np.abs(-np.log(p) + (p * np.log(p)).sum())
    mass = np.cumsum(p[np.argsort(score, kind="stable")])
    return row, {"typical_p": round(float(mass[rng.integers(0, len(p) - 1)]), 4)}


def _threshold(name: str, of: Callable[[np.ndarray, int], float]) -> Callable[..., tuple[np.ndarray, dict[str, Any]]]:
    def draw(rng: np.random.Generator) -> tuple[np.ndarray, dict[str, Any]]:
        row, p = _textbook(rng)
        return row, {name: round(of(p, int(rng.integers(1, len(p)))), 4)}

    return draw


def _xtc(rng: np.random.Generator) -> tuple[np.ndarray, dict[str, Any]]:
    row, p = _textbook(rng)
    return row, {"xtc_threshold": round(float(min(0.5, p[rng.integers(0, len(p))])), 4), "xtc_probability": 1.0}


def _ties(**values: Callable[[np.random.Generator, int], Any]) -> Callable[..., tuple[np.ndarray, dict[str, Any]]]:
    def draw(rng: np.random.Generator) -> tuple[np.ndarray, dict[str, Any]]:
        row = bfloat16_row(rng)
        return row, {name: value(rng, len(row)) for name, value in values.items()}

    return draw


def _uniform(rng: np.random.Generator) -> tuple[np.ndarray, dict[str, Any]]:
    size = int(rng.choice([4, 8, 64]))
    return np.full(size, float(rng.normal()), np.float32), {"top_p": float(rng.integers(1, size) / size)}


def _geometric(rng: np.random.Generator) -> tuple[np.ndarray, dict[str, Any]]:
    """Powers of two down to 2^-12, the last one twice, so that every prefix is 1 - 2^-k."""
    row = (-np.log(2) * np.minimum(np.arange(1, 14), 12)).astype(np.float32)
    rng.shuffle(row)
    return row, {"top_p": float(1 - 2.0 ** -int(rng.integers(1, 12)))}


BOUNDARIES: tuple[Boundary, ...] = (
    Boundary(name="top_p is the mass of a prefix", steps=("top_p",), draw=_prefix("top_p")),
    Boundary(name="top_p of equal numbers", steps=("top_p",), draw=_uniform),
    Boundary(name="top_p of powers of two", steps=("top_p",), draw=_geometric),
    Boundary(name="typical_p is the mass of the most typical", steps=("typical_p",), draw=_typical),
    Boundary(name="min_p is a ratio", steps=("min_p",), draw=_threshold("min_p", lambda p, at: float(p[at] / p[0]))),
    Boundary(
        name="epsilon is a probability",
        steps=("epsilon_cutoff",),
        draw=_threshold("epsilon_cutoff", lambda p, at: float(p[at])),
    ),
    Boundary(
        name="eta is a probability", steps=("eta_cutoff",), draw=_threshold("eta_cutoff", lambda p, at: float(p[at]))
    ),
    Boundary(name="the threshold of XTC is a probability", steps=("xtc",), draw=_xtc),
    Boundary(
        name="ties of bfloat16 at k", steps=("top_k",), draw=_ties(top_k=lambda rng, size: int(rng.integers(1, size)))
    ),
    Boundary(
        name="ties of bfloat16 at p", steps=("top_p",), draw=_ties(top_p=lambda rng, _: float(rng.uniform(0.1, 0.99)))
    ),
    Boundary(
        name="ties of bfloat16 at typical_p",
        steps=("typical_p",),
        draw=_ties(typical_p=lambda rng, _: float(rng.uniform(0.1, 0.99))),
    ),
    Boundary(
        name="ties of bfloat16 at XTC",
        steps=("xtc",),
        draw=_ties(
            xtc_threshold=lambda rng, _: float(rng.uniform(0.001, 0.05)), xtc_probability=lambda _rng, _size: 1.0
        ),
    ),
)
"""One row is one kind."""


def boundaries(system: System) -> tuple[Boundary, ...]:
    """Those of the filters that the system has."""
    steps = {*system.steps, *(("top_k", "top_p") if "joint" in system.steps else ())}
    return tuple(own for own in BOUNDARIES if set(own.steps) <= steps)
