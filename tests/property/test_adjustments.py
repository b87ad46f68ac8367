"""Steps 2 to 4 of every sampler against the reference: the same outcome, and adjusted logits that agree to the bit."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from samplerd_server.batching.pack import pack
from samplerd_server.core.enums import InputKind, PenaltyScope
from samplerd_server.core.params import Dry
from samplerd_server.sampling.kernels import full, references
from samplerd_server.sampling.kernels.memory import cut_scratch
from samplerd_server.sampling.kernels.workspace import Workspace
from samplerd_server.sampling.portable.load import load
from samplerd_server.sampling.portable.row_groups import group_rows
from samplerd_server.sampling.reference import pipeline as reference
from tests.support.samplers import all_outputs, check, params, request, sequence_lists, sparse

LAWS = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
SEEDS = st.integers(0, 2**64 - 1)
V = 12
TOKENS = st.integers(0, V - 1)
HISTORIES = st.lists(st.integers(0, 3) | TOKENS, max_size=24)
SEQUENCES = st.lists(st.lists(st.integers(0, 3) | TOKENS, min_size=1, max_size=4), max_size=4)
SCOPES = st.sampled_from(list(PenaltyScope))
# What float32 and binary64 both have to round.
NUMBERS = st.sampled_from([0.1, 1.1, -0.7, 3.3, 1e-3])


@st.composite
def adjustments(draw: Any) -> dict[str, Any]:
    """Fields of SamplingParams that act before the filters; each is missing as often as not."""
    biased = draw(st.lists(TOKENS, unique=True, max_size=3))
    amounts = draw(st.lists(NUMBERS | st.just(-np.inf), min_size=len(biased), max_size=len(biased)))
    fields = {
        "history": np.array(draw(HISTORIES), np.int32),
        **draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "prompt_length": st.integers(0, 26),
                    "repetition_penalty": st.sampled_from([0.7, 1.3]),
                    "frequency_penalty": NUMBERS,
                    "presence_penalty": NUMBERS,
                    "repetition_scope": SCOPES,
                    "frequency_scope": SCOPES,
                    "presence_scope": SCOPES,
                    "penalty_range": st.integers(0, 26),
                    "no_repeat_ngram_size": st.integers(1, 4),
                    "bad_words_scope": SCOPES,
                },
            )
        ),
        **sequence_lists("bad_words", draw(SEQUENCES)),
        "dry": draw(st.none() | dries()),
    }
    if biased:
        fields |= {"bias_ids": np.array(biased, np.int32), "bias_values": np.array(amounts, np.float32)}
    if draw(st.booleans()):
        fields["allowed_tokens"] = np.array(draw(st.lists(TOKENS, min_size=6, unique=True)), np.int32)
    return fields


@st.composite
def dries(draw: Any) -> Dry:
    """DRY with breakers of every kind."""
    single = draw(st.lists(TOKENS, max_size=2))
    return Dry(
        multiplier=0.8,
        base=draw(st.sampled_from([1.0, 1.75])),
        allowed_length=draw(st.integers(1, 4)),
        range=draw(st.integers(0, 26)),
        sequence_breakers=np.array(single, np.int32) if single else None,
        allow_no_repeat=draw(st.booleans()),
        **sequence_lists("breaker_sequences", draw(SEQUENCES)),
    )


@LAWS
@given(adjustments(), SEEDS, st.sampled_from([0.0, 0.8]), st.sampled_from(list(InputKind)))
def test_adjusted_rows_are_drawn_as_the_reference_says(sampler, fields, seed, temperature, kind):
    row = np.random.default_rng(seed).random(V) + 0.1
    own = params(**fields, temperature=temperature)
    check(sampler, request(row, kind=kind, params=own, seed=seed, outputs=all_outputs(sampler, top_n=3)))


@LAWS
@given(adjustments(), SEEDS, st.integers(1, V), st.sampled_from([{}, {"top_k": 1}, {"temperature": 0.0}]))
def test_adjusted_candidates_are_decided_as_the_reference_says(sampler, fields, seed, sent, filters):
    row = np.sort(np.random.default_rng(seed).normal(size=V).astype(np.float32))[::-1]
    rest = float(np.log(np.exp(row[sent:].astype(float)).sum())) if sent < V else -np.inf
    ids = np.random.default_rng(seed).permutation(V)[:sent].tolist()
    check(sampler, sparse(ids, row[:sent].tolist(), rest, V, params=params(**fields, **filters), seed=seed))


@numba.njit
def compiled_adjustments(rows: Any, work: Any, space: int, is_weights: bool) -> None:
    """Leave the adjusted row in work.x."""
    scratch = cut_scratch(space)
    full._read(rows[0], work, scratch)  # what is measured here is no output of a sampler
    work_at, scratch_at = references.reference(work), references.reference(scratch)
    full._adjust(rows[0], work, scratch, work_at, scratch_at, is_weights, -np.inf)


WORKSPACE = Workspace()


@LAWS
@given(adjustments(), SEEDS, st.sampled_from(list(InputKind)))
def test_adjusted_logits_agree_to_the_bit(fields, seed, kind):
    is_weights = kind == InputKind.PROBABILITIES
    row = np.random.default_rng(seed).random(V) * 3 + 0.01 if is_weights else np.random.default_rng(seed).normal(size=V)
    asked = request(row.astype(np.float32), kind=kind, params=params(**fields))
    raw = reference._read(asked, 0)
    want, _ = reference.judge(raw, raw, asked.params[0])
    assume(want.weights is None)  # a row of weights that is only masked has no logits to compare
    batch = pack([asked])
    compiled_adjustments(batch.rows, WORKSPACE.full(), WORKSPACE.space, is_weights)
    (group,) = group_rows(batch.rows, 1 << 20)
    portable = load(group, torch.device("cpu")).adjusted.numpy()[0]
    assert want.logits.astype(np.float32).tobytes() == WORKSPACE.full().x[:V].tobytes()
    assert want.logits.tobytes() == portable.tobytes()
