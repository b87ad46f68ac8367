"""Numbers at the ends of their ranges: rows masked with the lowest float32, temperatures near 0, or that come to 0."""

from __future__ import annotations

import numpy as np
import pytest

from samplerd_server.core.enums import InputKind, Order
from tests.support.samplers import KINDS, check, outputs, params, request

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
