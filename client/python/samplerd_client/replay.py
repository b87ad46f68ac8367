"""Replaying a draw: from the row, the seed and nothing else, in float64.

The law: with masses m_i >= 0 and their cumulative sums c_i in ascending id order, a draw is the first id with
c_i > u c_V. The server sums in an arithmetic of its own, so where u c_V lies within rounding of a boundary either
neighbour is right; `follows` knows that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from samplerd_client.arrays import readable
from samplerd_client.philox import PURPOSE_ACCEPT, PURPOSE_CORRECT, uniforms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["ROUNDING", "draw", "follows", "masses", "replay", "verdict_follows"]

ROUNDING = 1e-6
"""How far from a boundary, as a share of all mass, float32 arithmetic can put a draw on the other side."""


def masses(row: NDArray[Any], temperature: float = 1.0, *, probabilities: bool = False) -> NDArray[np.float64]:
    """Return float64[V] with sum 1: softmax(x / T), or w^(1/T) normalised; T = 0 is one at the first maximum.

    Args:
        row: [V] logits or weights, at least one of them possible.
        temperature: >= 0.
        probabilities: the numbers are weights.

    """
    logits = np.asarray(readable(row), dtype=np.float64)
    if probabilities:
        with np.errstate(divide="ignore"):
            logits = np.log(logits)
    if temperature == 0.0:
        certain = np.zeros(len(logits))
        certain[int(np.argmax(logits))] = 1.0
        return certain
    weights = np.exp((logits - logits.max()) / temperature)
    normalised: NDArray[np.float64] = weights / weights.sum()
    return normalised


def draw(law: NDArray[np.float64], noise: NDArray[np.float64]) -> NDArray[np.int32]:
    """Return int32[S]: the first id with c_i > u c_V for each u of the noise float64[S]."""
    cumulative = np.cumsum(law)
    ids: NDArray[np.int32] = np.searchsorted(cumulative, noise * cumulative[-1], side="right").astype(np.int32)
    return ids


def replay(
    row: NDArray[Any],
    seed: int,
    num_samples: int,
    *,
    temperature: float = 1.0,
    probabilities: bool = False,
    row_index: int = 0,
    draw_offset: int = 0,
) -> NDArray[np.int32]:
    """Return int32[S]: what the server must have drawn with replacement, up to rounding at the boundaries.

    Args:
        row: [V].
        seed: as in the result; with row_seeds, the row's own.
        num_samples: S.
        temperature: >= 0; filters are not replayed.
        probabilities: the numbers are weights.
        row_index: the row's index in its request; 0 with row_seeds.
        draw_offset: as in the request.

    """
    law = masses(row, temperature, probabilities=probabilities)
    return draw(law, uniforms(seed, num_samples, row=row_index, draw_offset=draw_offset))


def follows(samples: NDArray[Any], law: NDArray[np.float64], noise: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return bool[S]: whether each sample is the id of its noise, or its neighbour within rounding of the boundary."""
    ids = np.asarray(samples)
    cumulative = np.concatenate([[0.0], np.cumsum(law)])
    legal = (ids >= 0) & (ids < len(law))
    safe = np.where(legal, ids, 0)
    position = noise * cumulative[-1]
    above = position >= cumulative[safe] - ROUNDING
    below = position < cumulative[safe + 1] + ROUNDING
    result: NDArray[np.bool_] = legal & above & below & (law[safe] > 0.0)
    return result


def verdict_follows(
    samples: NDArray[np.int32],
    target: NDArray[np.float64],
    draft_ids: Sequence[int],
    draft: NDArray[np.float64],
    *,
    seed: int,
    draw_offset: int = 0,
    parents: Sequence[int] | None = None,
    path: Sequence[int] | None = None,
) -> bool:
    """Say whether a verified draft is what its noise makes of it, rounding at the boundaries allowed for.

    The law: the tokens that follow the last accepted one, or the sequence, are tried in order. The drafted token d is
    accepted if u q(d) < p(d), u of purpose 2 and of the token's index; if it is not, p becomes max(p - q, 0),
    renormalised. Where none is left a token is drawn from p, with purpose 3 and the index of the target row.

    Args:
        samples: int32[k], the reply.
        target: float64[n + 1, V], the masses of each row, each of sum 1; filters already applied.
        draft_ids: the n drafted tokens.
        draft: float64[n, V], the draft's masses, each of sum 1.
        seed: as in the result.
        draw_offset: as in the request.
        parents: as in the request; None = a chain.
        path: as in the result; None = the first tokens of a chain.

    """
    nodes = list(range(-1, len(draft_ids) - 1) if parents is None else parents)
    taken = list(range(len(samples) - 1) if path is None else path)
    if len(samples) != len(taken) + 1 or not set(taken) <= set(range(len(draft_ids))):
        return False
    if samples[:-1].tolist() != [draft_ids[index] for index in taken]:
        return False
    node, law = -1, target[0]
    for index, token in enumerate(draft_ids):
        if nodes[index] != node:
            continue
        noise = uniforms(seed, 1, row=index, draw_offset=draw_offset, purpose=PURPOSE_ACCEPT)[0]
        margin = law[token] - noise * draft[index, token]
        if index in taken:
            node, law = index, target[index + 1]
        else:
            left = np.maximum(law - draft[index], 0.0)
            law = left / left.sum() if left.any() else law
        if (margin < -ROUNDING) if index in taken else (margin > ROUNDING):
            return False
    noise = uniforms(seed, 1, row=node + 1, draw_offset=draw_offset, purpose=PURPOSE_CORRECT)
    return node == (taken[-1] if taken else -1) and bool(follows(samples[-1:], law, noise).all())
