"""Every combination of parameters that the contract excludes: INVALID_ARGUMENT naming the field, on every RPC of both
transports that takes parameters."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest

from samplerd.v1 import sampler_pb2 as pb
from tests.support.requests import tensor
from tests.support.served import details, failure, status_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

CODE = grpc.StatusCode
V = 8
ROWS = np.zeros((2, V))
INF, NAN, MAX = float("inf"), float("nan"), 1.7976931348623157e308
TEMPERATURE, TOP_K, TOP_P = pb.FILTER_STEP_TEMPERATURE, pb.FILTER_STEP_TOP_K, pb.FILTER_STEP_TOP_P

PARAMS: list[tuple[str, dict[str, Any]]] = [
    # what must not be given together
    ("adaptive_target", {"adaptive_target": 0.3, "skew": 0.5}),
    ("steps", {"order": pb.ORDER_VLLM, "steps": [TEMPERATURE]}),
    ("token_bitmask", {"allowed_tokens": [1], "token_bitmask": b"\xff\0\0\0"}),
    ("dynamic_temperature_range", {"temperature": 0.0, "dynamic_temperature_range": 0.5}),
    # what needs something else
    ("guidance_scale", {"guidance_scale": 1.5}),
    ("steps", {"steps": [TEMPERATURE], "top_k": 3}),
    ("steps", {"steps": [TOP_K], "temperature": 0.5}),
    ("steps", {"steps": [TOP_K], "dynamic_temperature_range": 0.5}),
    ("steps", {"steps": [TOP_K], "smoothing_factor": 0.5}),
    ("steps", {"steps": [TOP_P], "xtc_threshold": 0.1, "xtc_probability": 0.5}),
    ("steps[1]", {"steps": [TOP_P, TOP_P]}),
    ("steps[0]", {"steps": [0]}),
    ("steps[1]", {"steps": [TOP_P, 99]}),
    # what is no value of its enumeration
    ("order", {"order": 99}),
    ("ties", {"ties": 99}),
    ("xtc_exemption", {"xtc_exemption": 99}),
    ("repetition_scope", {"repetition_scope": 99}),
    ("frequency_scope", {"frequency_scope": 99}),
    ("presence_scope", {"presence_scope": 99}),
    ("bad_words_scope", {"bad_words_scope": 99}),
    # lists
    ("history[1]", {"history": [0, V]}),
    ("allowed_tokens[0]", {"allowed_tokens": [-1]}),
    ("xtc_exempt_ids[0]", {"xtc_exempt_ids": [V]}),
    ("logit_bias", {"logit_bias": [pb.LogitBias(id=1, bias=1.0), pb.LogitBias(id=1, bias=2.0)]}),
    ("logit_bias[0].id", {"logit_bias": [pb.LogitBias(id=V)]}),
    ("logit_bias[0].bias", {"logit_bias": [pb.LogitBias(id=1, bias=NAN)]}),
    ("logit_bias[0].bias", {"logit_bias": [pb.LogitBias(id=1, bias=INF)]}),
    ("token_bitmask", {"token_bitmask": b"\xff\0\0"}),
    ("token_bitmask", {"token_bitmask": bytes(8)}),
    ("bad_words[0].ids", {"bad_words": [pb.TokenSequence()]}),
    ("bad_words[1].ids[0]", {"bad_words": [pb.TokenSequence(ids=[1]), pb.TokenSequence(ids=[V])]}),
    ("dry.sequence_breakers[0]", {"history": [1], "dry": pb.DryParams(multiplier=1.0, sequence_breakers=[V])}),
    ("dry.breaker_sequences[0].ids", {"dry": pb.DryParams(multiplier=1.0, breaker_sequences=[pb.TokenSequence()])}),
    ("dry.multiplier", {"dry": pb.DryParams(multiplier=-1.0)}),
    ("dry.base", {"dry": pb.DryParams(multiplier=1.0, base=0.5)}),
    # numbers
    *(
        (name, {name: bad})
        for name, bad in (
            ("temperature", -0.5),
            ("temperature", NAN),
            ("temperature", INF),
            ("top_p", 0.0),
            ("top_p", 1.5),
            ("min_p", -0.1),
            ("top_a", 1.1),
            ("typical_p", 0.0),
            ("epsilon_cutoff", 1.0),
            ("eta_cutoff", 1.0),
            ("top_h", 0.0),
            ("top_n_sigma", INF),
            ("xtc_threshold", 1.5),
            ("xtc_probability", -0.5),
            ("adaptive_target", 1.5),
            ("adaptive_weighted_sum", -1.0),
            ("adaptive_total_weight", INF),
            ("adaptive_decay", 1.0),
            ("skew", 11.0),
            ("dynamic_temperature_range", INF),
            ("dynamic_temperature_exponent", -1.0),
            ("smoothing_factor", -1.0),
            ("smoothing_curve", 0.5),
            ("guidance_scale", NAN),
            ("repetition_penalty", 0.0),
            ("frequency_penalty", INF),
            ("presence_penalty", NAN),
        )
    ),
]
"""The field that is named, and what is sent."""
IDS = [f"{at}-{field}" for at, (field, _) in enumerate(PARAMS)]

REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("row_params", {"params": pb.SamplingParams(), "row_params": [pb.SamplingParams()] * 2}),
    ("row_params", {"row_params": [pb.SamplingParams()]}),
    ("row_params[1].top_p", {"row_params": [pb.SamplingParams(), pb.SamplingParams(top_p=2.0)]}),
    ("row_seeds", {"seed": 1, "row_seeds": [1, 2]}),
    ("row_seeds", {"row_seeds": [1]}),
    ("draw_offset", {"draw_offset": 1, "replacement": pb.REPLACEMENT_WITHOUT}),
    ("draw_offset", {"draw_offset": 2**64 - 1, "num_samples": 2}),
    ("replacement", {"replacement": 99}),
    ("kind", {"kind": 99}),
    ("priority", {"priority": 101}),
    ("num_samples", {"num_samples": 2**32 - 1}),
    ("outputs.top_n", {"outputs": pb.Outputs(top_n=2)}),
    ("outputs.logprob_ids", {"outputs": pb.Outputs(logprob_ids=[1])}),
    ("outputs.logprob_ids[0]", {"outputs": pb.Outputs(logprobs=[1], logprob_ids=[V])}),
    ("outputs.logprobs[0]", {"outputs": pb.Outputs(logprobs=[0])}),
    ("outputs.entropy[0]", {"outputs": pb.Outputs(entropy=[9])}),
    ("guidance", {"guidance": pb.Guidance(tensor=tensor(ROWS))}),
    (
        "guidance",
        {"guidance": pb.Guidance(tensor=tensor(ROWS[:1])), "params": pb.SamplingParams(guidance_scale=2.0)},
    ),
]
"""The same of what is not a parameter."""


def fields_of(error: grpc.aio.AioRpcError) -> list[str]:
    """The fields that an error names."""
    return [violation.field for violation in details(status_of(error))["BadRequest"].field_violations]


@pytest.mark.parametrize(("field", "fields"), PARAMS, ids=IDS)
async def test_parameters_that_cannot_be(service, field, fields):
    own = pb.SamplingParams(**fields)
    ways: dict[str, Any] = {
        "Sample": service.Sample(pb.SampleRequest(tensor=tensor(ROWS), params=own)),
        "VerifyDraft": service.VerifyDraft(pb.VerifyDraftRequest(target=tensor(ROWS), draft_ids=[1], params=own)),
        "CreateDistribution": service.CreateDistribution(
            pb.CreateDistributionRequest(name="never", tensor=tensor(ROWS), params=own)
        ),
    }
    for name, call in ways.items():
        error = await failure(call)
        assert (error.code(), fields_of(error)) == (CODE.INVALID_ARGUMENT, [f"params.{field}"]), name
        text = error.details() or ""
        assert text.startswith(f"params.{field}: "), name
        assert name == "Sample" or "this request has none" not in text, "guidance rows that could not be sent at all"
    stream = service.SampleStream()
    await stream.write(pb.SampleRequest(id=7, tensor=tensor(ROWS), row_params=[pb.SamplingParams(), own]))
    reply = await stream.read()
    assert (reply.id, reply.error.code) == (7, CODE.INVALID_ARGUMENT.value[0])
    assert reply.error.message.startswith(f"row_params[1].{field}: ")
    stream.cancel()


@pytest.mark.parametrize(("field", "fields"), REQUESTS, ids=[f"{at}-{field}" for at, (field, _) in enumerate(REQUESTS)])
async def test_requests_that_cannot_be(service, field, fields):
    error = await failure(service.Sample(pb.SampleRequest(tensor=tensor(ROWS), **fields)))
    assert (error.code(), fields_of(error)) == (CODE.INVALID_ARGUMENT, [field])
