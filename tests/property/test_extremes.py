"""Numbers at the ends of their ranges: rows masked with the lowest float32, temperatures near 0, or that come to 0."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.core.enums import Dtype, InputKind, LogprobKind, Order, TieRule
from samplerd_server.core.errors import InvalidRequestError
from samplerd_server.sampling.parameters import PARAMETERS, ParamKind
from samplerd_server.transport.codec.decode_ids import ParamsContext
from samplerd_server.transport.codec.decode_params import decode_params
from tests.support.samplers import KINDS, check, draw, make_sampler, outputs, params, request

LOWEST = float(np.finfo(np.float32).min)
FILTERS = (
    {},
    {"top_k": 2},
    {"top_p": 0.5},
    {"min_p": 0.5},
    {"top_a": 0.5},
    {"typical_p": 0.5},
    {"epsilon_cutoff": 0.1},
    {"eta_cutoff": 0.1},
    {"top_h": 0.5},
    {"top_n_sigma": 1.0},
    {"xtc_threshold": 0.2, "xtc_probability": 1.0},
)


def ask(row, *, draws: int = 1, top_n: int = 0, kind: InputKind = InputKind.LOGITS, **fields):
    """A request that draws without replacement and wants every output; named ids only where they are finite."""
    own = outputs(*KINDS, rank=True, entropy=KINDS, kept=True, top_n=top_n, named=[0])
    return request(
        row, kind=kind, params=params(**fields), outputs=own, seed=42, num_samples=draws, with_replacement=False
    )


@pytest.mark.parametrize("fields", FILTERS, ids=lambda own: next(iter(own), "none"))
@pytest.mark.parametrize("lowest", [LOWEST, -3.401e38])
@pytest.mark.parametrize("order", [Order.HUGGING_FACE, Order.LLAMA_CPP])
def test_a_row_that_is_masked_whole_is_drawn_from(sampler, fields, lowest, order):
    """`torch.finfo(torch.float32).min` everywhere: every category is as likely as any other."""
    [outcome] = check(sampler, ask([lowest] * 3, temperature=0.7, order=order, **fields))
    assert outcome.kept_count > 0


@pytest.mark.parametrize("number", [LOWEST, -3e38, 3e38])
@pytest.mark.parametrize("temperature", [1.0, 0.7, 1e-10, 1e-30])
def test_the_mass_of_half_of_the_row_is_a_half(sampler, number, temperature):
    [outcome] = check(sampler, ask([number] * 4, temperature=temperature, top_k=2))
    assert outcome.kept_mass == pytest.approx(0.5)


@pytest.mark.parametrize("lowest", [LOWEST, -1e30, -1e9, -1e4])
@pytest.mark.parametrize("fields", [{}, {"top_k": 4}, {"temperature": 0.5}])
def test_logprobs_of_what_is_drawn_once_only_masked_tokens_are_left(sampler, lowest, fields):
    """Each of three equal ones has a third, though a mask put them 10^38 below what was drawn first."""
    [outcome] = check(sampler, ask([1.0, lowest, lowest, lowest], draws=4, **fields))
    for logprobs in outcome.logprobs.values():
        assert logprobs == pytest.approx([0.0, -np.log(3), -np.log(2), 0.0])


ZERO = {"temperature": 1.0, "dynamic_temperature_range": 1.0}
"""With an entropy of 0 the temperature comes to 0."""


def test_a_dynamic_temperature_that_comes_to_zero_draws_in_order(sampler):
    """Equals, too: the lowest id first."""
    [outcome] = check(sampler, ask([-300.0, 1.0, -300.0, -200.0], draws=4, top_n=4, **ZERO))
    assert outcome.samples == (1, 3, 0, 2)
    [outcome] = check(
        sampler, ask([-300.0, 1.0, -300.0, -200.0], draws=3, top_n=2, order=Order.LLAMA_CPP, top_k=3, **ZERO)
    )
    assert outcome.samples == (1, 3, 0)


@pytest.mark.parametrize("kind", list(InputKind))
def test_a_dynamic_temperature_that_comes_to_zero_is_certain_of_one_among_equals(sampler, kind):
    asked = ask([1.0] * 4, top_n=3, kind=kind, order=Order.LLAMA_CPP, top_k=1, **ZERO)
    [outcome] = check(sampler, asked)
    assert outcome.kept_mass == 1.0


def test_what_xtc_dropped_is_certain_in_the_scaled_distribution(sampler):
    """Scaled is before the filters: of what they left of it, nothing is kept."""
    fields = {"xtc_threshold": 0.3, "xtc_probability": 1.0, "order": Order.LLAMA_CPP}
    [outcome] = check(sampler, ask([1.0, 1.0, -30.0, -30.0], draws=2, top_n=2, **fields, **ZERO))
    assert outcome.samples == (1, 2)
    assert outcome.kept_mass == 0.0


VANISHING = {"temperature": 1e-100, "dynamic_temperature_range": 1e-100, "dynamic_temperature_exponent": 1e300}
"""The temperature comes to 0 whatever the entropy, unless all are equal: no double is as small."""


@pytest.mark.parametrize(
    ("fields", "kept", "sample"),
    [
        ({"top_p": 0.5}, 2, 0),
        ({"top_p": 0.5, "ties": TieRule.HIGHEST_ID}, 2, 2),
        ({"top_k": 5}, 5, 0),
        ({"top_k": 1, "ties": TieRule.HIGHEST_ID}, 1, 3),
        ({"min_p": 0.5}, 4, 0),
        ({"typical_p": 0.5}, 2, 0),
        ({"top_h": 0.5}, 2, 0),
        ({"xtc_threshold": 0.25}, 2, 3),
        ({"xtc_threshold": 5e-324}, 2, 3),
        ({"xtc_threshold": 0.25, "ties": TieRule.HIGHEST_ID}, 2, 0),
        ({"xtc_threshold": 0.25, "ties": TieRule.ALL}, 5, 0),
        ({"xtc_threshold": 0.26}, 5, 0),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", list(InputKind))
def test_filters_after_a_temperature_of_zero_share_the_mass_among_equals(sampler, fields, kept, sample, kind):
    """The limit of T to 0, as at the lowest temperature; then the first of what is kept is drawn."""
    own = {"xtc_probability": 1.0, **fields} if "xtc_threshold" in fields else fields
    row = [2.0, 2.0, 2.0, 2.0, 1.0]
    [outcome] = check(sampler, ask(row, kind=kind, **own, **VANISHING))
    assert (outcome.kept_count, outcome.samples) == (kept, (sample,))
    [near] = check(sampler, ask(row, kind=kind, **own, temperature=1e-260))
    assert near.kept_count == kept


def test_what_follows_a_certainty_is_certain_though_a_filter_kept_no_prefix(sampler):
    """Of the four after the first, which the entropy leaves nothing, the highest ids are kept."""
    fields = {"top_k": 3, "ties": TieRule.HIGHEST_ID, **ZERO}
    [outcome] = check(sampler, ask([-30.0, -300.0, -30.0, -30.0, 1.0, -30.0], draws=3, **fields))
    assert outcome.samples == (4, 3, 5)
    assert outcome.logprobs[LogprobKind.SCALED] == [0.0, 0.0, 0.0]


# ------------------------------------------------------------------------ any finite row under any valid parameters
LARGEST, LEAST = float(np.finfo(np.float64).max), 5e-324
ENDS = {
    Dtype.F32: (-LOWEST, 1e-45, 1e30, 88.0, 2.5),
    Dtype.F16: (65504.0, 6e-8, 12.0, 1.0),
    Dtype.BF16: (3.3895e38, 1e-40, 7.0, 1.0),
    Dtype.F64: (-LOWEST, 1e-45, 3.0, 1.0),
}
SPREAD = {0.5, 1.0, LEAST, 1e-300, 1e-100, 1e-10, 1e10, 1e38, 1e300, LARGEST, -1.0, -LARGEST, 0.0, 3.0, 10.0, -10.0}
NUMBERS = {
    row.name: sorted({value for value in SPREAD | {row.range.low, row.range.high} if value in row.range})
    for row in PARAMETERS
    if row.kind is ParamKind.FLOAT and row.name != "guidance_scale"
}
"""Numbers of each parameter that are in its range, its ends among them."""
ALL = frozenset(f"SamplingParams.{own.name}" for own in PARAMETERS)
STEPS = [value for value in pb.FilterStep.values() if value]


@st.composite
def rows(draw_from, kind: InputKind, dtype: Dtype) -> list[float]:
    """Numbers at the ends of a dtype: few different ones, so that there are equals."""
    positive = (0.0, *ENDS[dtype])
    every = positive if kind == InputKind.PROBABILITIES else (*positive, *(-value for value in positive), -np.inf)
    pool = draw_from(st.lists(st.sampled_from(every), min_size=1, max_size=3))
    return draw_from(st.lists(st.sampled_from(pool), min_size=1, max_size=8))


@st.composite
def messages(draw_from, width: int) -> pb.SamplingParams:
    """Up to five parameters with numbers at the ends of their ranges; the lists that they need."""
    names = draw_from(st.lists(st.sampled_from(sorted(NUMBERS)), max_size=4, unique=True))
    message = pb.SamplingParams(**{name: draw_from(st.sampled_from(NUMBERS[name])) for name in names})
    if draw_from(st.booleans()):
        message.temperature = draw_from(st.sampled_from(NUMBERS["temperature"]))
    message.history.extend(draw_from(st.lists(st.integers(0, width - 1), max_size=6)))
    message.top_k = draw_from(st.sampled_from([0, 0, 1, 2]))
    message.min_tokens_to_keep = draw_from(st.sampled_from([0, 0, 2, 2**32 - 1]))
    if draw_from(st.booleans()):
        bias = draw_from(st.sampled_from([LOWEST, -LOWEST, 1e-45, -np.inf]))
        message.logit_bias.add(id=draw_from(st.integers(0, width - 1)), bias=bias)
    if draw_from(st.integers(0, 5)) == 0:
        strength = draw_from(st.sampled_from([LEAST, 1.0, LARGEST]))
        message.dry.CopyFrom(pb.DryParams(multiplier=strength, base=draw_from(st.sampled_from([1.0, 2.0, LARGEST]))))
    if draw_from(st.booleans()):
        message.order = draw_from(st.sampled_from(pb.Order.values()))
    elif draw_from(st.booleans()):
        message.steps.extend(draw_from(st.permutations(STEPS)))
    message.ties = draw_from(st.sampled_from(pb.TieRule.values()))
    return message


def test_smoothed_logits_order_what_has_the_same_logprob(sampler):
    """The first is smoothed to -1e-40: as likely as the other in float64, and behind it."""
    biased = {"bias_ids": np.array([0], np.int32), "bias_values": np.array([LOWEST], np.float32)}
    own = params(**biased, smoothing_factor=1e-100)
    [outcome] = check(sampler, request([0.0, 0.0], params=own, outputs=outputs(*KINDS, top_n=3), num_samples=1))
    for kind in (LogprobKind.SCALED, LogprobKind.PROCESSED):
        assert outcome.top(kind, 3)[0] == [1, 0, -1]


@settings(max_examples=200)
@given(st.data(), st.sampled_from(InputKind), st.sampled_from(Dtype), st.integers(0, 2**40), st.booleans())
def test_every_sampler_draws_from_any_row_under_any_parameters(data, kind, dtype, seed, without):
    """What the contract accepts is drawn from, with log-probabilities that are numbers, as the reference draws."""
    row = data.draw(rows(kind, dtype))
    message = data.draw(messages(len(row)))
    context = ParamsContext(vocab_size=len(row), max_tokens=1 << 10, capabilities=ALL)
    try:
        own = decode_params(message, "params", context)
    except InvalidRequestError:  # some exclude each other
        assume(False)
    wanted = outputs(*KINDS, rank=True, entropy=KINDS, kept=True, adaptive_state=True, top_n=3, named=[0])
    draws = data.draw(st.integers(1, len(row))) if without else 3
    asked = request(
        row,
        dtype,
        kind=kind,
        params=own,
        outputs=wanted,
        seed=seed,
        num_samples=draws,
        with_replacement=not without,
    )
    for name in ("numba", "torch"):
        sampler = make_sampler(name)
        check(sampler, asked)
        got = draw(sampler, asked)
        if not got.status[0]:
            each = (*got.logprobs.values(), *got.named.values(), *got.top_logprobs.values(), *got.entropy.values())
            assert not np.isnan(np.concatenate([*each, got.kept_mass])).any()


@pytest.mark.parametrize("temperature", [LEAST, 1e-310, 1e-300, 1e-261])
def test_a_temperature_below_the_lowest_that_matters_is_it(temperature):
    """The same entity is decoded, alone and beside other parameters."""
    context = ParamsContext(vocab_size=4, max_tokens=1 << 10, capabilities=ALL)
    for others in ({}, {"top_p": 0.5}):
        low = decode_params(pb.SamplingParams(temperature=temperature, **others), "params", context)
        assert low.temperature == 1e-260


@pytest.mark.parametrize("temperature", [1e37, 1e39, 1e45, 1e300])
def test_gaps_beyond_float32_have_the_mass_that_the_temperature_gives_them(sampler, temperature):
    """And what is forbidden has none: -inf times an inverse temperature that float32 rounds to 0 is no number."""
    asked = request(
        [LOWEST, -np.inf, -LOWEST, 0.0],
        params=params(temperature=temperature),
        outputs=outputs(*KINDS, entropy=KINDS, kept=True),
        num_samples=200,
        seed=3,
    )
    [outcome] = check(sampler, asked)
    assert 1 not in outcome.samples
    assert len(set(outcome.samples)) == (3 if temperature > 1e37 else 1)


@pytest.mark.parametrize("temperature", [1e-260, 1e-100, 1e-45, 1e-40])
def test_the_least_gap_decides_at_a_low_temperature(sampler, temperature):
    """Numbers that differ by as little as float32 can say, divided by a temperature that it cannot say."""
    own = outputs(*KINDS, entropy=KINDS, kept=True)
    [outcome] = check(
        sampler, request([0.0, 1e-40, -1e-40], params=params(temperature=temperature), outputs=own, num_samples=50)
    )
    assert (set(outcome.samples) == {1}) == (temperature < 1e-40)
