"""Sums that wait for no long chain: by halving within blocks of 512, then in order of blocks. Law: design record 35.

Every bit is compared, since another order moves only the last ones.
"""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest
import torch

from samplerd_server.batching.pack import pack
from samplerd_server.core.enums import InputKind
from samplerd_server.sampling.kernels import outputs
from samplerd_server.sampling.kernels.sampler import NumbaSampler
from samplerd_server.sampling.portable.tree import sum_blocks
from samplerd_server.sampling.resumed import ResumedDraft
from samplerd_server.sampling.rows import DraftSequence
from tests.support.samplers import encode, params, request

WIDTHS = (1, 2, 511, 512, 513, 1_500, 5_000)


def halved(terms: np.ndarray) -> float:
    blocks = np.pad(terms, (0, -len(terms) % 512)).reshape(-1, 512)
    while blocks.shape[1] > 1:
        half = blocks.shape[1] // 2
        blocks = blocks[:, :half] + blocks[:, half:]
    total = 0.0
    for own in blocks[:, 0].tolist():
        total += own
    return total


@pytest.mark.parametrize("width", WIDTHS)
def test_torch(width: int) -> None:
    terms = np.random.default_rng(width).normal(size=(3, width)) ** 9
    got = sum_blocks(torch.from_numpy(terms))
    assert got[:, 0].tolist() == [halved(row) for row in terms]
    padded = sum_blocks(torch.from_numpy(np.pad(terms, ((0, 0), (0, 700)))))
    assert padded.tolist() == got.tolist(), "what rows are padded to changes nothing"


def test_entropies_of_weights_and_at_high_temperatures() -> None:
    @numba.njit(error_model="numpy")
    def powers(x, temperature, top, terms, half):
        for i in range(len(x)):
            terms[i] = outputs._power_term(x[i], temperature, top)
        return outputs._sum_powers(x, temperature, top, half)

    @numba.njit(error_model="numpy")
    def flat(x, mass, maximum, temperature, terms, half):
        for i in range(len(x)):
            terms[i] = outputs._flat_term(x[i], mass[i], maximum, temperature)
        return outputs._sum_flat(x, mass, maximum, temperature, half)

    rng = np.random.default_rng(1)
    terms, half = np.empty(512), np.empty(256)
    for _ in range(50):
        x = rng.random(512, np.float32) ** 5
        assert powers(x, 0.7, math.log(float(x.max())) / 0.7, terms, half) == halved(terms)
        logits = (rng.normal(size=512) * 1e20).astype(np.float32)
        logits[rng.random(512) < 0.1] = -np.inf
        assert flat(logits, x, logits.max(), 1e20, terms, half) == halved(terms)


@pytest.mark.parametrize("width", WIDTHS[2:])
def test_what_a_rejected_token_leaves(width: int) -> None:
    """A token that cannot be accepted is rejected, and the state of the slice holds what it leaves, and its sum."""
    rng = np.random.default_rng(width)
    target = rng.random((3, width))
    target[:, 1] = 0.0
    asked = request(target, kind=InputKind.PROBABILITIES, seed=3, params=params(temperature=0.9))
    own = ResumedDraft(
        DraftSequence(
            target=pack([asked]),
            draft_ids=np.array([1, 1], np.int32),
            parents=np.array([-1, -1], np.int32),
            draft=encode(rng.random((2, width)) * rng.random((2, width))),
        )
    )
    own.tokens = 1
    assert NumbaSampler(1).resume_draft(own) is None
    residual = own.state.residual
    assert residual[0] == halved(residual[1 : 1 + width]) > 0
