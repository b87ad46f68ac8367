"""What a field may cost: by the price, which `python -m benchmarks price` holds against measured time.

Nothing here is timed. A price in nanoseconds is set against that of plain sampling of as many bytes.
"""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.price_cases import bound_of, cases, dense, more_bytes, plain_of, request_of
from samplerd_server.core.outputs import Outputs
from samplerd_server.core.params import Dry, SamplingParams
from samplerd_server.core.request import SampleRequest
from samplerd_server.core.rows import DenseRows
from samplerd_server.sampling.parameters import PARAMETERS
from samplerd_server.sampling.price import work_of

SCALE = 16
CASES = {case.name: case.request for case in cases(SCALE)}
REPEATED = " shared by many rows"
"""Lists that rows share are priced once for each row, though kernels go through them once: see the price's module."""
ALONE = {
    name: asked
    for name, asked in CASES.items()
    if isinstance(asked.source, DenseRows) and asked.source.rows == 1 and asked.source.vocab_size == 131_072 // SCALE
}
"""Cases of one row of the same width: they can be put together."""
FREE = {
    *("temperature", "order", "steps", "ties", "min_tokens_to_keep", "top_k_is_exact", "prompt_length"),
    *("repetition_penalty", "presence_penalty", "repetition_scope", "frequency_scope", "presence_scope"),
    *("penalty_range", "bad_words_scope", "dynamic_temperature_exponent", "dynamic_temperature_counts_all"),
    *("smoothing_curve", "adaptive_weighted_sum", "adaptive_total_weight", "adaptive_decay", "xtc_exemption"),
}
"""Parameters that decide how something is done that another one of the cases costs."""


def price(asked: SampleRequest) -> float:
    return work_of(asked.source, asked.num_samples, asked.params, asked.kind, asked.with_replacement, asked.outputs)


def plain_price(width: int, samples: int = 1) -> float:
    return price(request_of(dense(1, width), num_samples=samples))


NUMBER = (plain_price(200_000) - plain_price(100_000)) / 100_000
DRAW = (plain_price(100, 10_001) - plain_price(100, 1)) / 10_000


def worth(asked: SampleRequest) -> float:
    numbers, draws = more_bytes(asked)
    return price(plain_of(asked)) + numbers * NUMBER + draws * DRAW


def changed(own: object, plain: object) -> set[str]:
    return {
        field.name
        for field in dataclasses.fields(plain)
        if getattr(own, field.name) is not getattr(plain, field.name)
        and repr(getattr(own, field.name)) != repr(getattr(plain, field.name))
    }


@pytest.mark.parametrize("name", sorted(name for name in CASES if not name.endswith(REPEATED)))
def test_no_field_costs_more_than_its_bound(name):
    asked = CASES[name]
    assert price(asked) <= bound_of(name) * worth(asked)


def test_every_parameter_has_a_case():
    plain = SamplingParams()
    seen = set().union(*(changed(asked.params[0], plain) for asked in CASES.values()))
    for own in PARAMETERS:
        names = {own.name, f"{own.name}_ids", own.name.replace("logit_bias", "bias_ids")}
        assert names & (seen | FREE), f"{own.name} has no case in benchmarks/price_cases.py"


def test_every_output_has_a_case():
    seen = set().union(*(changed(asked.outputs, Outputs()) for asked in CASES.values()))
    assert {field.name for field in dataclasses.fields(Outputs)} - {"raw_samples"} <= seen  # which costs no more


def merged(names: list[str]) -> SampleRequest:
    """Ask for what each of these cases asks for, all at once."""
    first, *others = (ALONE[name] for name in names)
    asked = first
    for other in others:
        fields = changed(other.params[0], SamplingParams()) - {"is_plain"}
        own = replace(asked.params[0], is_plain=False, **{name: getattr(other.params[0], name) for name in fields})
        outputs = {name: getattr(other.outputs, name) for name in changed(other.outputs, Outputs())}
        if "output_flags" in outputs:
            outputs["output_flags"] |= asked.outputs.output_flags
        if outputs.get("logprobs") == ():
            del outputs["logprobs"]
        asked = replace(
            asked,
            params=(own,),
            outputs=replace(asked.outputs, **outputs),
            guidance=asked.guidance or other.guidance,
            num_samples=max(asked.num_samples, other.num_samples),
            with_replacement=asked.with_replacement and other.with_replacement,
        )
    return asked


LOGITS = sorted(
    name for name, asked in ALONE.items() if asked.kind == SampleRequest.__dataclass_fields__["kind"].default
)


@given(st.lists(st.sampled_from(LOGITS), min_size=2, max_size=8, unique=True))
def test_fields_together_cost_at_most_what_each_of_them_costs(names):
    asked = merged(names)
    bound = sum(bound_of(name) for name in names)
    assert price(asked) <= min(bound, bound_of("every field")) * worth(asked)


def test_a_dearer_field_fails():
    """The bound is one that a coefficient can break."""
    asked = CASES["dry"]
    assert price(asked) > 2 * worth(asked)
    assert asked.params[0].dry != Dry()
