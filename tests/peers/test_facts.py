"""Statements of docs/coming_from.md that no row can hold: each is a program for a peer, which prints JSON."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import Any

import pytest

from tests.peers.environments import ENVIRONMENTS

pytestmark = [pytest.mark.peer, pytest.mark.timeout(600)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One statement."""

    system: str
    statement: str
    program: str
    """The last line prints."""
    expected: Any


_VLLM = """
import torch, vllm_worker as w, numpy as np
def rank(row, token):
    from vllm.v1.sample.ops.logprobs import batched_count_greater_than as count
    own = torch.tensor([row]).log()
    return count(own, own[:, token:token + 1]).item()
"""
_LLAMA = """
import numpy as np, llama_cpp_worker as w
def kept(p, **params):
    return np.flatnonzero(w.process(np.log(np.array(p, np.float32)), params)).tolist()
def ratio(p, **params):
    row = np.log(np.maximum(np.array(p, np.float32), 1e-30)); row[np.array(p) == 0] = -np.inf
    left = w.process(row, params); return round(float(np.log(left[1] / left[0]) / np.log(p[1] / p[0])), 4)
"""

FACTS = (
    Fact(
        system="hugging_face",
        statement="generate is greedy, and keeps 50 if it samples",
        program="""
from transformers import GenerationConfig
own = GenerationConfig._get_default_generation_params()
print(json.dumps([own["do_sample"], own["top_k"], own["temperature"], own["top_p"]]))""",
        expected=[False, 50, 1.0, 1.0],
    ),
    Fact(
        system="hugging_face",
        statement="a bad word that is the end of sequence alone is left out",
        program="""
import torch
from transformers.generation.logits_process import NoBadWordsLogitsProcessor
own = NoBadWordsLogitsProcessor([[2], [1]], eos_token_id=2)(torch.tensor([[0]]), torch.zeros(1, 3))
print(json.dumps(torch.isfinite(own)[0].tolist()))""",
        expected=[True, False, True],
    ),
    Fact(
        system="vllm",
        statement="a temperature below 0.01 is 0.01; 0 stays 0",
        program="""
from vllm import SamplingParams
print(json.dumps([SamplingParams(temperature=own).temperature for own in (1e-3, 0.0, 0.02)]))""",
        expected=[0.01, 0.0, 0.02],
    ),
    Fact(
        system="vllm",
        statement="a temperature above 2 and a presence penalty above 2 are refused",
        program="""
from vllm import SamplingParams
def refused(**own):
    try: SamplingParams(**own)
    except Exception: return True
    return False
print(json.dumps([refused(temperature=2.5), refused(presence_penalty=2.5), refused(temperature=2.0)]))""",
        expected=[True, True, False],
    ),
    Fact(
        system="vllm",
        statement="a bias is moved into -100 to 100",
        program="""
from vllm import SamplingParams
print(json.dumps([*SamplingParams.from_optional(logit_bias={1: float("-inf"), 2: 150.0}).logit_bias.values()]))""",
        expected=[-100.0, 100.0],
    ),
    Fact(
        system="vllm",
        statement="a greedy row's processed_logprobs are those of T = 1 without filters",
        program=_VLLM
        + """
p = [0.5, 0.3, 0.1, 0.1]
own = w.process(np.log(np.array(p, np.float32)), {"temperature": 0.0, "top_k": 1})
print(json.dumps((own / own.sum()).round(4).tolist()))""",
        expected=[0.5, 0.3, 0.1, 0.1],
    ),
    Fact(
        system="vllm",
        statement="of equal first tokens each has the rank of the last",
        program=_VLLM
        + """
print(json.dumps([rank([0.4, 0.4, 0.1, 0.1], token) for token in range(4)]))""",
        expected=[2, 2, 4, 4],
    ),
    Fact(
        system="vllm",
        statement="it samples at T = 1 with no filter unless told otherwise",
        program="""
from vllm import SamplingParams
own = SamplingParams()
print(json.dumps([own.temperature, own.top_k, own.top_p, own.min_p, own.repetition_penalty]))""",
        expected=[1.0, 0, 1.0, 0.0, 1.0],
    ),
    Fact(
        system="llama.cpp",
        statement="with T = 0 XTC still acts, and the least likely at the threshold is taken",
        program=_LLAMA
        + """
print(json.dumps([kept([0.4, 0.3, 0.2, 0.1], temperature=0.0, xtc_threshold=0.15, xtc_probability=1.0),
                  kept([0.4, 0.3, 0.2, 0.1], temperature=0.0)]))""",
        expected=[[2], [0]],
    ),
    Fact(
        system="llama.cpp",
        statement="typical_p has to be exceeded, top_p reached",
        program=_LLAMA
        + """
print(json.dumps([len(kept([0.25] * 4, typical_p=0.5)), len(kept([0.25] * 4, top_p=0.5))]))""",
        expected=[3, 2],
    ),
    Fact(
        system="llama.cpp",
        statement="min_keep does not widen top_k",
        program=_LLAMA
        + """
print(json.dumps([kept([0.4, 0.3, 0.2, 0.1], top_k=1, min_tokens_to_keep=3),
                  kept([0.4, 0.3, 0.2, 0.1], top_p=0.1, min_tokens_to_keep=3)]))""",
        expected=[[0], [0, 1, 2]],
    ),
    Fact(
        system="llama.cpp",
        statement="dynamic temperature counts entries of -inf, and its lowest temperature is 0",
        program=_LLAMA
        + """
two = dict(temperature=1.0, dynamic_temperature_range=0.5)
print(json.dumps([ratio([0.5, 0.25], **two) < ratio([0.5, 0.25, 0], **two),
                  ratio([0.6, 0.4], temperature=0.5, dynamic_temperature_range=2.0)
                  == ratio([0.6, 0.4], temperature=1.25, dynamic_temperature_range=1.25)]))""",
        expected=[True, True],
    ),
    Fact(
        system="llama.cpp",
        statement="after a logit of -inf typical_p keeps a prefix of the most likely, not the most typical",
        program=_LLAMA
        + """
p = [0.6, 0.2, 0.1, 0.1]
print(json.dumps([kept(p, typical_p=0.15), kept([*p, 1e-9], typical_p=0.15, logit_bias=[(4, float("-inf"))])]))""",
        expected=[[1], [0]],
    ),
    Fact(
        system="sglang",
        statement="a temperature below 1e-6 is T = 1 with top_k 1",
        program="""
from sglang_worker import SamplingParams
own = SamplingParams(temperature=1e-7)
print(json.dumps([own.temperature, own.top_k]))""",
        expected=[1.0, 1],
    ),
    Fact(
        system="sglang",
        statement="top_p drops what follows a mass above it, so that a mass of exactly top_p takes one more",
        program="""
import numpy as np, sglang_worker as w
print(json.dumps(int((w.process(np.zeros(4, np.float32), {"top_p": 0.5}) > 0).sum())))""",
        expected=3,
    ),
    Fact(
        system="mlx-lm",
        statement="its defaults are greedy, with a window of 20 for each penalty",
        program="""
import inspect
from mlx_lm import sample_utils
own = inspect.signature(sample_utils.make_sampler).parameters
two = inspect.signature(sample_utils.make_logits_processors).parameters
print(json.dumps([own["temp"].default, own["xtc_threshold"].default, two["repetition_context_size"].default]))""",
        expected=[0.0, 0.1, 20],
    ),
    Fact(
        system="mlx-lm",
        statement="XTC counts what is above the threshold, not what is at it",
        program="""
import numpy as np, mlx_lm_worker as w
row = np.log(np.array([2, 1, 1], np.float32))
print(json.dumps([int((w.process(row, {"xtc_threshold": own, "xtc_probability": 1.0}) > 0).sum())
                  for own in (0.25, 0.2499)]))""",
        expected=[3, 2],
    ),
)


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: f"{fact.system}: {fact.statement}")
def test_the_peer_does_what_the_page_says(fact: Fact) -> None:
    own = ENVIRONMENTS[fact.system]
    assert own.python.exists(), f"{fact.system} is not installed: make test-peers"
    done = subprocess.run(
        [str(own.python), "-c", f"import json\n{fact.program}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=own.worker.parent,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    assert json.loads(done.stdout.strip().splitlines()[-1]) == fact.expected
