"""Every sampler against the reference: random rows, random parameters, every output it offers."""

from __future__ import annotations

import math
from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
from hypothesis import HealthCheck, assume, given, settings

from samplerd_server.core.enums import (
    Dtype,
    FilterStep,
    InputKind,
    LogprobKind,
    Order,
    RowErrorReason,
    Step,
    TieRule,
    XtcExemption,
)
from samplerd_server.core.params import Dry
from samplerd_server.sampling.parameters import PARAMETERS, ParamKind
from samplerd_server.sampling.reference import pipeline as reference
from samplerd_server.sampling.thresholds import thresholds
from tests.support.samplers import all_outputs, check, encode, outputs, params, request, require, sparse

LAWS = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
SEEDS = st.integers(0, 2**64 - 1)
# A grid, so that ties are frequent and no number needs rounding in any dtype.
LOGITS = st.one_of(st.integers(-40, 40).map(lambda i: i / 8), st.just(-np.inf))
TEMPERATURES = st.sampled_from([0.0, 1e-8, 0.1, 0.7, 1.0, 1.3, 10.0, 1e4])


def rows(smallest: int = 1, largest: int = 40) -> st.SearchStrategy[list[float]]:
    return st.lists(LOGITS, min_size=smallest, max_size=largest)


@LAWS
@given(rows(), st.sampled_from(list(Dtype)), TEMPERATURES, st.integers(1, 6), SEEDS, st.booleans())
def test_plain_draws(sampler, row, dtype, temperature, draws, seed, with_replacement):
    check(
        sampler,
        request(
            row,
            dtype,
            params=params(temperature=temperature),
            num_samples=draws,
            seed=seed,
            with_replacement=with_replacement,
            outputs=outputs(LogprobKind.RAW, LogprobKind.SCALED),
        ),
    )


@LAWS
@given(
    st.lists(st.integers(0, 64).map(lambda i: i / 16), min_size=1, max_size=40),
    TEMPERATURES,
    st.integers(1, 6),
    SEEDS,
    st.booleans(),
)
def test_weights(sampler, row, temperature, draws, seed, with_replacement):
    check(
        sampler,
        request(
            row,
            kind=InputKind.PROBABILITIES,
            params=params(temperature=temperature),
            num_samples=draws,
            seed=seed,
            with_replacement=with_replacement,
            outputs=outputs(LogprobKind.RAW, LogprobKind.SCALED),
        ),
    )


@LAWS
@given(rows(), TEMPERATURES, st.integers(1, 4), SEEDS, st.booleans(), st.lists(st.integers(0, 39), max_size=4))
def test_every_output_of_plain_rows(sampler, row, temperature, draws, seed, with_replacement, named):
    wanted = all_outputs(sampler, top_n=5, named=[token for token in named if token < len(row)] or None)
    check(
        sampler,
        request(
            row,
            params=params(temperature=temperature),
            num_samples=draws,
            seed=seed,
            with_replacement=with_replacement,
            outputs=wanted,
        ),
    )


# A filter that is one formula is tried with all of these that it accepts; the others have values of their own.
SHARES = [1e-6, 0.0031, 0.03, 0.09, 0.31, 0.57, 1.0]
FORMULAS = thresholds(exp=math.exp, sqrt=math.sqrt, minimum=min)
FRACTIONAL = [row.name for row in PARAMETERS if row.step is Step.FILTERS and row.kind is ParamKind.FLOAT]


def filters(sampler) -> st.SearchStrategy[dict]:
    """Any filters that the sampler offers, in any order."""
    values = {
        "top_k": st.integers(1, 50),
        "top_p": st.sampled_from([1e-9, 0.1, 0.5, 0.87, 0.99]),
        "typical_p": st.sampled_from([1e-9, 0.21, 0.63, 0.97]),
        "top_n_sigma": st.sampled_from([0.13, 0.97, 2.41]),
        "top_h": st.sampled_from([1e-9, 0.23, 0.5, 0.9]),
        "min_tokens_to_keep": st.integers(1, 5),
        "order": st.sampled_from(list(Order)),
        "steps": st.permutations(list(FilterStep)).map(lambda steps: np.array(steps, np.int32)),
        "ties": st.sampled_from(list(TieRule)),
        "top_k_is_exact": st.booleans(),
    }
    for row in PARAMETERS:
        if row.name in FORMULAS:
            values[row.name] = st.sampled_from([share for share in SHARES if share in row.range])
    assert {row.name for row in PARAMETERS if row.step is Step.FILTERS} == values.keys() | XTC
    offered = {k: v for k, v in values.items() if f"SamplingParams.{k}" in sampler.capabilities}
    return st.fixed_dictionaries({}, optional=offered)


XTC = {"xtc_threshold", "xtc_probability", "xtc_exempt_ids", "xtc_exemption"}  # tried by itself, below


def nudged(fields: dict, share: float) -> dict:
    """The same thresholds, moved by a rounding's breadth."""
    moved = set(FRACTIONAL) - {"xtc_probability"}
    return {name: value * (1 + share) if name in moved and value < 1 else value for name, value in fields.items()}


def assume_cuts_are_clear(asked, fields: dict, **more) -> None:
    """Leave out rows where a cut lies within rounding of a threshold: there, either side is right."""
    kept = []
    for share in (-1e-6, 0.0, 1e-6):
        outcome = reference.sample(replace(asked, params=(params(**nudged(fields, share), **more),)))[0]
        own = () if outcome.processed is None else tuple(outcome.processed.kept.tolist())
        kept.append((outcome.reason, own))
    assume(kept[0] == kept[1] == kept[2])


@LAWS
@given(st.data(), rows(), st.sampled_from([0.6, 1.0, 1.7]), st.integers(1, 3), SEEDS, st.booleans())
def test_filters(sampler, data, row, temperature, draws, seed, with_replacement):
    require(sampler, "SamplingParams.top_k")
    fields = data.draw(filters(sampler))
    asked = request(
        row,
        params=params(temperature=temperature, **fields),
        num_samples=draws,
        seed=seed,
        with_replacement=with_replacement,
        outputs=all_outputs(sampler, top_n=4),
    )
    assume_cuts_are_clear(asked, fields, temperature=temperature)
    check(sampler, asked)


@LAWS
@given(
    rows(2),
    SEEDS,
    st.sampled_from([0.03, 0.11, 0.45, 0.6]),
    st.sampled_from([0.5, 1.0]),
    st.integers(1, 3),
    st.lists(st.integers(0, 39), max_size=9),
    st.sampled_from(list(XtcExemption)),
)
def test_xtc(sampler, row, seed, threshold, probability, least, exempt, exemption):
    require(sampler, "SamplingParams.xtc_probability")
    fields = {"xtc_threshold": threshold, "xtc_probability": probability, "min_tokens_to_keep": least}
    fields["xtc_exemption"] = exemption
    if own := [token for token in exempt if token < len(row)]:
        fields["xtc_exempt_ids"] = np.array(own, np.int32)
    asked = request(row, params=params(**fields), seed=seed, outputs=all_outputs(sampler), num_samples=3)
    assume_cuts_are_clear(asked, fields)
    check(sampler, asked)


@LAWS
@given(rows(), SEEDS, st.sampled_from([0.5, 1.0, 2.0]), st.sampled_from([0.25, 1.0, 2.5]), st.booleans())
def test_dynamic_temperature(sampler, row, seed, temperature, exponent, is_last):
    require(sampler, "SamplingParams.dynamic_temperature_range")
    fields = {
        "temperature": temperature,
        "dynamic_temperature_range": temperature / 2,
        "dynamic_temperature_exponent": exponent,
        "order": Order.LLAMA_CPP if is_last else Order.HUGGING_FACE,
        "top_k": 7,
    }
    check(sampler, request(row, params=params(**fields), seed=seed, outputs=all_outputs(sampler), num_samples=3))


@LAWS
@given(
    st.data(),
    rows(),
    SEEDS,
    st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    st.sampled_from([1e-3, 0.2, 1.0, 40.0]),
    st.sampled_from([1.0, 2.2, 3.0, 5.0]),
    st.booleans(),
    st.booleans(),
)
def test_smoothing(sampler, data, row, seed, temperature, factor, curve, are_weights, with_replacement):
    require(sampler, "SamplingParams.smoothing_factor", "SamplingParams.smoothing_curve")
    fields = data.draw(filters(sampler)) | {"smoothing_factor": factor, "smoothing_curve": curve}
    spread = data.draw(st.sampled_from([0.0, temperature / 2]))
    fields |= {"temperature": temperature, "dynamic_temperature_range": spread}
    check(
        sampler,
        request(
            np.exp(row) if are_weights else row,
            kind=InputKind.PROBABILITIES if are_weights else InputKind.LOGITS,
            params=params(**fields),
            num_samples=3,
            seed=seed,
            with_replacement=with_replacement,
            outputs=all_outputs(sampler, top_n=4, named=[0]),
        ),
    )


SHAPES = st.one_of(
    st.fixed_dictionaries({"skew": st.sampled_from([-9.0, -0.7, 0.4, 3.0])}),
    st.fixed_dictionaries(
        {"adaptive_target": st.sampled_from([0.01, 0.3, 1.0])},
        optional={
            "adaptive_weighted_sum": st.sampled_from([0.2, 1.1, 7.0]),
            "adaptive_total_weight": st.sampled_from([1.0, 3.7, 10.0]),
        },
    ),
)


@LAWS
@given(
    st.data(),
    rows(),
    SEEDS,
    st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    SHAPES,
    st.sampled_from([0.0, 0.6]),
    st.booleans(),
    st.booleans(),
)
def test_shapes(sampler, data, row, seed, temperature, shape, smoothing, are_weights, with_replacement):
    """Adaptive-p and skew, after any filters and any temperature."""
    require(sampler, "SamplingParams.skew", "SamplingParams.adaptive_target")
    fields = data.draw(filters(sampler)) | shape | {"temperature": temperature, "smoothing_factor": smoothing}
    check(
        sampler,
        request(
            np.exp(row) if are_weights else row,
            kind=InputKind.PROBABILITIES if are_weights else InputKind.LOGITS,
            params=params(**fields),
            num_samples=3,
            seed=seed,
            with_replacement=with_replacement,
            outputs=all_outputs(sampler, top_n=4, named=[0]),
        ),
    )


@LAWS
@given(st.data(), rows(3), SEEDS, SHAPES, st.integers(1, 8))
def test_shapes_of_candidates(sampler, data, row, seed, shape, top_k):
    row = sorted((x for x in row if x > -np.inf), reverse=True) or [0.0]
    sent = data.draw(st.integers(1, len(row)))
    rest = math.log(math.fsum(math.exp(x) for x in row[sent:])) if sent < len(row) else -math.inf
    fields = shape | data.draw(st.sampled_from([{}, {"top_k": top_k}]))
    own = all_outputs(sampler, top_n=3)
    check(sampler, sparse(range(sent), row[:sent], rest, len(row), params=params(**fields), outputs=own, seed=seed))


@LAWS
@given(st.data(), rows(3), SEEDS, st.sampled_from([1.0, 3.0, 4.0]), st.integers(1, 8))
def test_smoothing_of_candidates(sampler, data, row, seed, curve, top_k):
    row = sorted((x for x in row if x > -np.inf), reverse=True) or [0.0]
    sent = data.draw(st.integers(1, len(row)))
    rest = math.log(math.fsum(math.exp(x) for x in row[sent:])) if sent < len(row) else -math.inf
    fields = {"smoothing_factor": 0.4, "smoothing_curve": curve, "top_k": top_k}
    fields["order"] = data.draw(st.sampled_from(list(Order)))
    own = all_outputs(sampler, top_n=3)
    check(sampler, sparse(range(sent), row[:sent], rest, len(row), params=params(**fields), outputs=own, seed=seed))


@LAWS
@given(st.data(), rows(), SEEDS, st.sampled_from([0.0, 0.8, 1.0]))
def test_masks_biases_and_penalties(sampler, data, row, seed, temperature):
    require(sampler, "SamplingParams.history", "SamplingParams.logit_bias", "SamplingParams.token_bitmask")
    tokens = st.integers(0, len(row) - 1)
    biased = data.draw(st.lists(tokens, unique=True, max_size=5))
    amounts = st.one_of(st.integers(-16, 16).map(lambda i: i / 8), st.just(-np.inf))
    values = data.draw(st.lists(amounts, min_size=len(biased), max_size=len(biased)))
    fields = {
        "temperature": temperature,
        "history": np.array(data.draw(st.lists(tokens, max_size=20)), np.int32),
        "bias_ids": np.array(biased, np.int32),
        "bias_values": np.array(values, np.float32),
        "repetition_penalty": data.draw(st.sampled_from([0.5, 1.0, 2.0])),
        "frequency_penalty": data.draw(st.sampled_from([-0.25, 0.0, 0.5])),
        "presence_penalty": data.draw(st.sampled_from([-0.5, 0.0, 0.25])),
        "dry": data.draw(st.sampled_from([None, Dry(multiplier=0.5, base=2.0, allowed_length=1, range=12)])),
    }
    mask = data.draw(st.sampled_from(["none", "ids", "bits"]))
    allowed = data.draw(st.lists(tokens, unique=True, min_size=1))
    if mask == "ids":
        fields["allowed_tokens"] = np.array(allowed, np.int32)
    if mask == "bits":
        words = np.zeros((len(row) + 31) // 32, np.uint32)
        for token in allowed:
            words[token // 32] |= np.uint32(1 << (token % 32))
        fields["token_bitmask"] = words.tobytes()
    check(sampler, request(row, params=params(**fields), seed=seed, outputs=all_outputs(sampler, top_n=3)))


@LAWS
@given(st.data(), rows(), SEEDS, st.sampled_from(list(Dtype)), st.sampled_from([-1.0, 0.0, 0.5, 1.5, 4.0]))
def test_guidance(sampler, data, row, seed, dtype, scale):
    require(sampler, "SampleRequest.guidance", "SamplingParams.guidance_scale")
    other = data.draw(st.lists(LOGITS, min_size=len(row), max_size=len(row)))
    tokens = st.integers(0, len(row) - 1)
    fields = {
        "temperature": data.draw(st.sampled_from([0.0, 0.7, 1.0])),
        "top_k": data.draw(st.sampled_from([0, 3])),
        "history": np.array(data.draw(st.lists(tokens, max_size=5)), np.int32),
        "repetition_penalty": data.draw(st.sampled_from([1.0, 2.0])),
    }
    is_weights = data.draw(st.booleans())
    own, second = (np.exp(np.array(each)) if is_weights else each for each in (row, other))
    asked = request(
        own,
        kind=InputKind.PROBABILITIES if is_weights else InputKind.LOGITS,
        params=params(guidance_scale=scale, **fields),
        guidance=encode(second, dtype),
        seed=seed,
        num_samples=2,
        with_replacement=data.draw(st.booleans()),
        outputs=all_outputs(sampler, top_n=3),
    )
    check(sampler, asked)


def rest_of(logits: np.ndarray) -> float:
    """logsumexp of what is not sent."""
    mass = float(np.exp(logits).sum())
    return math.log(mass) if mass > 0 else -math.inf


@LAWS
@given(st.data(), rows(3), SEEDS, st.sampled_from([0.0, 0.7, 1.0]), st.booleans())
def test_candidates(sampler, data, row, seed, temperature, with_replacement):
    require(sampler, "SampleRequest.candidates")
    assume(sum(np.isfinite(row)) >= 3)
    order = np.lexsort((np.arange(len(row)), -np.array(row)))
    sent = data.draw(st.integers(1, int(sum(np.isfinite(row)))))
    ids, unsent = order[:sent], order[sent:]
    rest = rest_of(np.array(row)[unsent])
    fields = {"temperature": temperature, **data.draw(filters(sampler))}
    asked = sparse(
        ids.tolist(),
        np.array(row)[ids].tolist(),
        rest,
        len(row),
        params=params(**fields),
        seed=seed,
        num_samples=2,
        with_replacement=with_replacement,
        outputs=all_outputs(sampler, top_n=3, named=[0, len(row) - 1]),
    )
    assume_cuts_are_clear(asked, fields)
    check(sampler, asked)


@LAWS
@given(rows(3), SEEDS, st.integers(1, 3), st.sampled_from([0.5, 1.0]))
def test_decidable_candidates_draw_what_the_whole_row_draws(row, seed, k, top_p):
    """The reference against itself: what candidates decide is what the whole row decides."""
    assume(sum(np.isfinite(row)) >= 3)
    order = np.lexsort((np.arange(len(row)), -np.array(row)))
    ids = order[:3]
    rest = rest_of(np.array(row)[order[3:]])
    own = params(top_k=k, top_p=top_p)
    some = reference.sample(sparse(ids.tolist(), np.array(row)[ids].tolist(), rest, len(row), params=own, seed=seed))
    whole = reference.sample(request(row, params=own, seed=seed))
    assert some[0].reason == RowErrorReason.NONE
    assert some[0].samples == whole[0].samples
