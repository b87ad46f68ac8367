"""The table of systems speaks samplerd's language: names of parameters, steps and penalties that exist."""

from __future__ import annotations

from dataclasses import fields

import pytest

from samplerd_server.core.params import SamplingParams
from tests.peers.systems import SYSTEMS, System

PARAMETERS = {own.name for own in fields(SamplingParams)}
STEPS = PARAMETERS | {
    *("logit_bias", "joint", "xtc", "dynamic_temperature", "guidance"),
    # Parameters that a later commit adds to the contract.
    *("no_repeat_ngram_size", "bad_words", "top_h", "smoothing_factor", "adaptive_p"),
}


@pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS.keys())
def test_names_are_those_of_the_contract(system: System) -> None:
    assert set(system.steps) <= STEPS
    assert len(set(system.steps)) == len(system.steps)
    assert set(system.defaults) <= PARAMETERS
    assert set(system.ties) | system.exceeds | set(system.scopes) <= set(system.steps)


@pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS.keys())
def test_every_penalty_has_a_scope_and_every_fact_a_line(system: System) -> None:
    penalties = {"repetition_penalty", "frequency_penalty", "presence_penalty", "dry"} & set(system.steps)
    assert penalties <= set(system.scopes)
    assert {"steps", "defaults"} <= set(system.sources)
    if system.package is not None:
        assert set(system.ties) | system.exceeds <= set(system.sources)
