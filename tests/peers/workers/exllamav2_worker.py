"""ExLlamaV2: its `sample_basic`, compiled without CUDA; rows are of a multiple of 32 categories, as it wants them.

Without a skew it tells the probabilities that it draws from. A skew acts on its random number alone, so the draw itself
is asked: for each category the largest random number that still draws it or one before it, found by bisection.
"""

from __future__ import annotations

from typing import Any

import exllamav2_sampler
import numpy as np
import torch
from protocol import serve

NAMES = ("temperature", "top_k")
NONE = torch.empty((0, 0), device="meta")
BISECTIONS = 26
"""Random numbers are float32: halving more often changes nothing."""


def sample(row: torch.Tensor, params: dict[str, Any], random: float) -> tuple[int, np.ndarray]:
    """Draw once: the token, and the probabilities after all filters, float64[V]."""
    size = row.shape[-1]
    token, probability = torch.empty((1, 1), dtype=torch.long), torch.empty((1, 1))
    left, ids = torch.empty((1, 1, size)), torch.empty((1, 1, size), dtype=torch.long)
    own = {"temperature": 1.0, "top_k": 0, **params}
    exllamav2_sampler.sample_basic(
        row.reshape(1, 1, size),
        *(own[name] for name in NAMES),
        *(0.0, 0.0, 0.0, 0.0, 0.0, random),  # top_p, top_a, min_p, tfs and typical are off
        *(token, probability, left, ids, NONE),
        *(False, [], 0.0, 0.0, 1.0),  # mirostat is off, and no temperature comes last
        *(torch.ones(size, dtype=torch.bool), 0.0, 0.1, 0.0, 0.0, 1.0),  # XTC and dynamic temperature are off
        *(own.get("smoothing_factor", 0.0), own.get("skew", 0.0)),
    )
    answer = np.zeros(size)
    is_kept = left.flatten() > 0  # behind these stand numbers of no token
    answer[ids.flatten()[is_kept].numpy()] = left.flatten()[is_kept].numpy()
    return int(token), answer


def process(row: np.ndarray, params: dict[str, Any]) -> np.ndarray:
    """Say what one row is drawn from."""
    logits = torch.from_numpy(row)
    _, kept = sample(logits, params, 0.5)
    if "skew" not in params:
        return kept
    order = np.argsort(-kept, kind="stable")[: int((kept > 0).sum())]
    rank = {int(token): at for at, token in enumerate(order)}
    ends = np.ones(len(order))
    for at in range(len(order) - 1):
        low, high = 0.0, 1.0
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            low, high = (middle, high) if rank[sample(logits, params, middle)[0]] <= at else (low, middle)
        ends[at] = low
    answer = np.zeros(len(row))
    answer[order] = np.diff(ends, prepend=0.0)
    return answer


if __name__ == "__main__":
    torch.set_num_threads(1)
    serve(process, {*NAMES, "smoothing_factor", "skew"})
