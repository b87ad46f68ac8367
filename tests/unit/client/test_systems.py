"""Presets of other systems: what the table of their facts says, and what the server takes."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from samplerd_client import Dry, SamplingParams
from samplerd_client.systems import PRESETS, System
from samplerd_server.core.enums import FilterStep, Order, TieRule
from samplerd_server.sampling.parameters import ORDERS, rule_of, steps_of
from samplerd_server.transport.codec.decode_ids import ParamsContext
from samplerd_server.transport.codec.decode_params import decode_params
from tests.peers.systems import SYSTEMS

CONTEXT = ParamsContext(
    vocab_size=100,
    max_tokens=9000,
    capabilities=frozenset(f"SamplingParams.{name}" for name in SamplingParams.__dataclass_fields__),
    has_guidance=False,
)
SCOPES = {
    "repetition_penalty": "repetition_scope",
    "frequency_penalty": "frequency_scope",
    "presence_penalty": "presence_scope",
    "bad_words": "bad_words_scope",
}
RULES = {"lowest": TieRule.LOWEST_ID, "highest": TieRule.HIGHEST_ID, "all": TieRule.ALL}


def decoded(params: SamplingParams):
    return decode_params(params.to_proto(), "params", CONTEXT)


def test_there_is_a_preset_of_every_system():
    assert set(PRESETS) == set(SYSTEMS) == set(get_args(System))


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_preset_is_what_the_facts_say(name):
    facts, preset, got = SYSTEMS[name], PRESETS[name], decoded(SamplingParams.like(name))
    assert preset.version == facts.version
    defaults = {"temperature": 0.0} if facts.is_greedy_by_default else {}
    for field, value in (facts.defaults | defaults).items():
        assert getattr(got, field) == value, field
    assert got.penalty_range == facts.range
    assert (preset.dry_range or 0) == facts.dry_range
    assert (preset.lowest_temperature, preset.greedy_below) == (facts.lowest_temperature, facts.greedy_below)
    for penalty, field in SCOPES.items():
        if penalty in facts.scopes:
            assert getattr(got, field).name.lower() == facts.scopes[penalty], penalty


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_preset_has_the_order_of_the_system(name):
    steps = steps_of(decoded(SamplingParams.like(name, temperature=0.9)))
    known = {step.name.lower() for step in FilterStep} | {"joint"}
    own = [step for step in SYSTEMS[name].steps if step in known]
    assert [step for step in steps if step in own] == own


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_preset_keeps_the_equals_that_the_system_keeps(name):
    rule = decoded(SamplingParams.like(name)).ties
    for own, ties in SYSTEMS[name].ties.items():
        if ties != "unspecified":
            assert rule_of(rule, own) is RULES[ties], own


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_preset_sets_nothing_that_the_facts_do_not_say(name):
    facts = SYSTEMS[name]
    said = set(facts.defaults) | {"order", "steps", "ties", "penalty_range"} | set(SCOPES.values())
    said |= {"temperature"} if facts.is_greedy_by_default else set()
    # Of dynamic temperature, min_keep and XTC docs/coming_from.md says so.
    llama = {"dynamic_temperature_counts_all", "top_k_is_exact"}
    said |= {"llama.cpp": llama, "koboldcpp": llama, "text-generation-webui": {"xtc_exemption"}}.get(name, set())
    assert set(PRESETS[name].fields) <= said


def test_fields_that_are_given_take_the_place_of_defaults():
    own = SamplingParams.like("llama.cpp", temperature=0.3, top_k=None, min_p=0.2)
    assert (own.temperature, own.top_k, own.top_p, own.min_p) == (0.3, 40, 0.95, 0.2)
    assert own.order == "llama_cpp"
    assert SamplingParams.like("llama.cpp", steps=["top_k", "top_p", "min_p", "temperature"]).order is None
    assert SamplingParams.like("mlx-lm", order="vllm").steps is None
    assert decoded(SamplingParams.like("mlx-lm", order="vllm")).order is Order.VLLM
    assert decoded(own).order is Order.LLAMA_CPP
    assert ORDERS[Order.LLAMA_CPP][-1] == "temperature"


def test_greedy_rows_of_mlx_lm_skip_the_filters_that_come_before_the_temperature():
    greedy = ("temperature", "top_p", "min_p", "xtc", "top_k")
    assert SamplingParams.like("mlx-lm").steps == greedy
    assert SamplingParams.like("mlx-lm", temperature=0).steps == greedy
    assert SamplingParams.like("mlx-lm", temperature=0.1).steps == (*greedy[1:], "temperature")
    assert SamplingParams.like("mlx-lm", steps=["xtc", "temperature"]).steps == ["xtc", "temperature"]
    assert SamplingParams.like("mlx-lm", order="llama_cpp").steps is None


def test_dry_looks_as_far_as_the_system_does():
    dry = Dry(multiplier=0.8)
    assert SamplingParams.like("llama.cpp", dry=dry).dry == Dry(multiplier=0.8, range=64)
    assert SamplingParams.like("llama.cpp", dry=Dry(multiplier=0.8, range=5)).dry == Dry(multiplier=0.8, range=5)
    assert SamplingParams.like("hugging_face", dry=dry).dry == dry


def test_temperatures_that_a_system_does_not_take_as_they_are():
    assert SamplingParams.like("vllm", temperature=0.001).temperature == 0.01
    assert SamplingParams.like("vllm", temperature=0.0).temperature == 0.0
    assert SamplingParams.like("vllm", temperature=0.5).temperature == 0.5
    assert SamplingParams.like("sglang", temperature=1e-7).temperature == 0.0
    assert SamplingParams.like("sglang", temperature=1e-5).temperature == 1e-5


def test_other_names_are_refused():
    with pytest.raises(ValueError, match=r"system: must be one of hugging_face, .*; got 'ollama'"):
        SamplingParams.like("ollama")


def test_a_preset_goes_where_parameters_go():
    history = np.array([1, 2, 3])
    own = SamplingParams.like("vllm", frequency_penalty=0.5, history=history, prompt_length=2)
    message = own.to_proto()
    assert list(message.history) == [1, 2, 3]
    assert decoded(own).frequency_scope.name == "OUTPUT"
