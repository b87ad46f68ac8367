"""The statistical audits of ``samplerctl verify``: whether draws fit the distribution that they should follow.

Each states its null (the law), its n (``--draws``) and its alpha (``--alpha``); the seeds are fixed by ``--seed``, so a
failure repeats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from samplerd_client.replay import masses
from samplerd_client.samplerctl.audits import Auditor, Outcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["LAWS"]

EXAMPLE = np.array([1.0, 2.0, 0.5, 1.5], dtype=np.float32)
EXAMPLE_TEMPERATURE = 0.7
EXAMPLE_LAW = np.array([0.1298, 0.5416, 0.0635, 0.2651])
"""The worked example of docs/sampling.md, to four digits."""


async def the_example_fits(auditor: Auditor) -> Outcome:
    """Draw the worked example, logits [1, 2, 0.5, 1.5] at T = 0.7, many times with one seed."""
    law = masses(EXAMPLE, EXAMPLE_TEMPERATURE)
    assert np.allclose(law, EXAMPLE_LAW, atol=5e-5), "the float64 softmax misses the worked example. This is a bug."
    result = await auditor.client.sample(
        EXAMPLE, temperature=EXAMPLE_TEMPERATURE, num_samples=auditor.draws, seed=auditor.key(10)
    )
    observed = np.bincount(result.samples[0], minlength=4)
    shares = " ".join(f"{share:.4f}" for share in observed / observed.sum())
    return auditor.judge(observed, law, shares)


async def weights_fit(auditor: Auditor) -> Outcome:
    """Draw from weights with a zero among them, which must never be drawn."""
    weights = np.array([0.1, 0.0, 0.2, 0.3, 0.4], dtype=np.float32)
    result = await auditor.client.sample(weights, probabilities=True, num_samples=auditor.draws, seed=auditor.key(11))
    law = masses(weights, probabilities=True)
    return auditor.judge(np.bincount(result.samples[0], minlength=5), law, "4 weights and a zero")


async def seeds_fit(auditor: Auditor) -> Outcome:
    """Draw once for each of many consecutive seeds: the noise must not depend on how seeds are chosen."""
    counts = np.zeros(4, dtype=np.int64)
    for keys in _groups(range(min(auditor.draws, 50_000)), auditor.info.limits.max_rows_per_request):
        rows = np.broadcast_to(EXAMPLE, (len(keys), 4))
        result = await auditor.client.sample(rows, temperature=EXAMPLE_TEMPERATURE, row_seeds=list(keys))
        counts += np.bincount(result.samples[:, 0], minlength=4)
    return auditor.judge(counts, masses(EXAMPLE, EXAMPLE_TEMPERATURE), "4 categories")


async def ordered_pairs_fit(auditor: Auditor) -> Outcome:
    """Draw two without replacement, many times; compare the ordered pairs with the law of successive draws."""
    law = masses(EXAMPLE, EXAMPLE_TEMPERATURE)
    pairs = [(first, second) for first in range(4) for second in range(4) if first != second]
    wanted = np.array([law[first] * law[second] / (1.0 - law[first]) for first, second in pairs])
    counts = np.zeros(16, dtype=np.int64)
    for number, group in enumerate(
        _groups(range(min(auditor.draws, 50_000)), auditor.info.limits.max_rows_per_request)
    ):
        rows = np.broadcast_to(EXAMPLE, (len(group), 4))
        result = await auditor.client.sample(
            rows, temperature=EXAMPLE_TEMPERATURE, num_samples=2, replacement=False, seed=auditor.key(20 + number)
        )
        counts += np.bincount(result.samples[:, 0] * 4 + result.samples[:, 1], minlength=16)
    repeated = int(counts[[0, 5, 10, 15]].sum())
    outcome = auditor.judge(counts[[4 * first + second for first, second in pairs]], wanted, "12 ordered pairs")
    if repeated:
        return Outcome(is_ok=False, draws=outcome.draws, detail=f"{repeated} pairs of one id twice")
    return outcome


async def draws_are_independent(auditor: Auditor) -> Outcome:
    """Take successive draws of one row in pairs; compare them with independent draws."""
    law = masses(EXAMPLE, EXAMPLE_TEMPERATURE)
    width = 2 * (auditor.draws // 2)
    result = await auditor.client.sample(
        EXAMPLE, temperature=EXAMPLE_TEMPERATURE, num_samples=width, seed=auditor.key(12)
    )
    pairs = result.samples[0].reshape(-1, 2)
    counts = np.bincount(pairs[:, 0] * 4 + pairs[:, 1], minlength=16)
    return auditor.judge(counts, np.outer(law, law).ravel(), "16 successive pairs")


def _groups(items: range, size: int) -> list[range]:
    size = min(size or 1024, 1024)
    return [items[start : start + size] for start in range(0, len(items), size)]


LAWS: tuple[tuple[str, Callable[[Auditor], Awaitable[Outcome]]], ...] = (
    ("the worked example fits", the_example_fits),
    ("weights fit, zero never drawn", weights_fit),
    ("draws are independent", draws_are_independent),
    ("consecutive seeds fit", seeds_fit),
    ("ordered pairs fit", ordered_pairs_fit),
)
"""Name and audit, in the order of the table."""
