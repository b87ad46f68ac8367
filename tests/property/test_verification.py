"""Every sampler verifies random drafts as the reference does: chains and trees, with and without rows and filters."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
from hypothesis import HealthCheck, event, given, settings

from samplerd_server.core.enums import Dtype
from tests.support.drafts import ask_reference, ask_sampler, chain, random_parents
from tests.support.samplers import encode, params, request

LAWS = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
SEEDS = st.integers(0, 2**64 - 1)
FILTERS = st.sampled_from([{}, {"top_k": 5, "top_p": 0.8}, {"min_p": 0.1}])


@LAWS
@given(
    SEEDS,
    st.integers(0, 8),
    st.integers(2, 60),
    st.sampled_from([0.0, 0.7, 1.0]),
    st.booleans(),
    st.booleans(),
    FILTERS,
    st.sampled_from(list(Dtype)),
)
def test_verification(sampler, seed, length, width, temperature, is_tree, has_rows, filters, dtype):
    numbers = np.random.default_rng(seed)
    own = params(temperature=temperature, **filters)
    target = request(numbers.normal(size=(length + 1, width)) * 2, dtype, seed=seed, params=own)
    ids = numbers.integers(0, min(width, 6), length).tolist()
    parents = random_parents(numbers, length) if is_tree else chain(length)
    draft = encode(numbers.random((length, width)) + 0.01, dtype) if has_rows and length else None
    want = ask_reference(target, ids, parents, draft)
    event(f"accepted {len(want.path)}, tried a second child: {parents.count(-1) > 1}")
    assert ask_sampler(sampler, target, ids, parents, draft) == want


@LAWS
@given(SEEDS, st.integers(1, 5), st.integers(2, 40))
def test_siblings_without_replacement(sampler, seed, children, width):
    """Rows that are 0 at the tokens drawn before, as sampling without replacement makes them."""
    numbers = np.random.default_rng(seed)
    children = min(children, width - 1)
    target = numbers.normal(size=(children + 1, width))
    weights = np.exp(target[0] + numbers.normal(size=width)).astype(np.float32).astype(np.float64)
    ids = numbers.choice(width, size=children, replace=False, p=weights / weights.sum()).tolist()
    draft = np.stack([np.where(np.isin(np.arange(width), ids[:child]), 0.0, weights) for child in range(children)])
    asked = request(target, seed=seed)
    want = ask_reference(asked, ids, [-1] * children, encode(draft))
    assert ask_sampler(sampler, asked, ids, [-1] * children, encode(draft)) == want
