"""From arguments to the bytes of a request, with protobuf's own parser as the judge."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client import Candidates, Dry, SamplingParams, SharedMemory
from samplerd_client import request as request_module
from samplerd_client.coalesced_request import key_of
from samplerd_client.options import SamplingFields
from samplerd_client.request import build
from tests.support.parameters import every_value


def parsed(logits: Any = None, request_id: int = 0, **options: Any) -> pb.SampleRequest:
    return pb.SampleRequest.FromString(build(logits, options).encode(request_id))  # type: ignore[arg-type]


@given(
    rows=st.integers(1, 5),
    width=st.integers(1, 300),
    dtype=st.sampled_from(["f32", "f16", "bf16", "f64"]),
    request_id=st.integers(0, 2**64 - 1),
    seed=st.none() | st.integers(0, 2**64 - 1),
)
def test_the_bytes_are_protobufs(rows: int, width: int, dtype: str, request_id: int, seed: int | None) -> None:
    values = np.arange(rows * width, dtype=np.float32).reshape(rows, width) % 100
    request = parsed(values, request_id, dtype=dtype, seed=seed, temperature=0.5)
    assert (request.id, request.tensor.rows, request.tensor.vocab_size) == (request_id, rows, width)
    assert request.HasField("seed") == (seed is not None)
    assert request.seed == (seed or 0)
    assert len(request.tensor.data) == rows * width * {"f32": 4, "f16": 2, "bf16": 2, "f64": 8}[dtype]
    assert build(values, {"dtype": dtype, "temperature": 0.5, "seed": seed}).encode(
        request_id
    ) == request.SerializeToString(deterministic=True), "the bytes are those that protobuf would write"


@pytest.mark.parametrize("seed", [None, 3])
def test_guidance_rows_are_sent_as_protobuf_would(seed: int | None) -> None:
    values, second = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((2, 3), np.float16)
    prepared = build(values, {"guidance": second, "guidance_scale": 1.5, "seed": seed})
    request = pb.SampleRequest.FromString(prepared.encode(7))
    assert (request.guidance.tensor.dtype, request.guidance.tensor.rows) == (pb.DTYPE_F16, 2)
    assert request.guidance.tensor.data == second.tobytes()
    assert request.tensor.data == values.tobytes()
    assert request.params.guidance_scale == 1.5
    assert prepared.encode(7) == request.SerializeToString(deterministic=True)
    assert key_of(build(values[:1], {"guidance": second[:1], "guidance_scale": 1.5})) is None, "it is sent alone"
    again = parsed(values, guidance_scale=1.5)
    assert not again.HasField("guidance"), "the template of equal options has no guidance rows"


def test_guidance_rows_are_converted_and_may_be_in_shared_memory() -> None:
    converted = parsed([1.0, 2.0], guidance=[3.0, 4.0], dtype="f64", guidance_scale=2.0)
    assert np.frombuffer(converted.guidance.tensor.data, "<f8").tolist() == [3.0, 4.0]
    memory = SharedMemory(key="a", rows=1, vocab_size=2, offset=8)
    request = parsed([1.0, 2.0], guidance=memory, guidance_scale=2.0)
    assert request.guidance.shared_memory == memory.to_proto()
    assert request.tensor.vocab_size == 2
    both = parsed(shared_memory=memory, guidance=[3.0, 4.0], guidance_scale=2.0)
    assert both.WhichOneof("source") == "shared_memory"
    assert both.guidance.tensor.vocab_size == 2
    with pytest.raises(ValueError, match=r"^guidance: "):
        parsed([1.0, 2.0], guidance=np.zeros((1, 1, 1)))


def test_every_sampling_parameter_arrives() -> None:
    params = SamplingParams(
        temperature=0.0,
        top_k=3,
        top_p=0.9,
        min_p=0.1,
        typical_p=0.8,
        epsilon_cutoff=0.01,
        eta_cutoff=0.02,
        top_n_sigma=1.5,
        xtc_threshold=0.2,
        xtc_probability=0.3,
        dynamic_temperature_range=0.4,
        dynamic_temperature_exponent=2.0,
        repetition_penalty=1.1,
        frequency_penalty=0.5,
        presence_penalty=0.6,
        dry=Dry(multiplier=0.7, base=1.8, allowed_length=3, range=9, sequence_breakers=[1]),
        history=np.array([5, 6]),
        logit_bias={2: -1.5},
        allowed_tokens=[1, 2],
        token_bitmask=np.array([-1, 3], dtype=np.int32),
        min_tokens_to_keep=2,
        order="llama_cpp",
    )
    message = params.to_proto()
    assert message.HasField("temperature"), "0 is not absence"
    assert message.token_bitmask == b"\xff\xff\xff\xff\x03\x00\x00\x00"
    assert message.order == pb.ORDER_LLAMA_CPP
    as_keywords = {field.name: getattr(params, field.name) for field in fields(params)}
    assert parsed([1.0], **as_keywords).params == message
    assert parsed([1.0], params=params).params == message


def test_no_parameter_is_forgotten() -> None:
    values = every_value()
    assert values.keys() == {field.name for field in fields(SamplingParams)}
    message = SamplingParams(**values).to_proto()
    assert {field.name for field, _ in message.ListFields()} == set(pb.SamplingParams.DESCRIPTOR.fields_by_name)
    assert {field.name for field, _ in message.dry.ListFields()} == set(pb.DryParams.DESCRIPTOR.fields_by_name)
    assert parsed([1.0], **values).params == message


def test_keywords_and_params_and_proto_have_the_same_fields() -> None:
    names = {field.name for field in fields(SamplingParams)}
    assert names == set(SamplingFields.__annotations__) == set(pb.SamplingParams.DESCRIPTOR.fields_by_name)


def test_what_is_absent_is_not_sent() -> None:
    request = parsed([1.0, 2.0])
    assert not request.HasField("params")
    assert not request.HasField("seed")
    assert request.outputs.raw_samples
    assert parsed([1.0], temperature=None, seed=None, row_seeds=None, params=None) == parsed([1.0])
    assert SamplingParams().to_proto() == pb.SamplingParams()


def test_options() -> None:
    request = parsed(
        [[1.0], [2.0]],
        replacement=False,
        probabilities=True,
        row_seeds=np.array([1, 2**64 - 1], dtype=np.uint64),
        row_params=[SamplingParams(top_k=1), SamplingParams()],
        num_samples=5,
        draw_offset=7,
        priority=-3,
        logprobs="raw",
        logprob_ids=[3],
        entropy=("processed",),
    )
    assert request.replacement == pb.REPLACEMENT_WITHOUT
    assert request.kind == pb.INPUT_KIND_PROBABILITIES
    assert list(request.row_seeds) == [1, 2**64 - 1]
    assert [row.top_k for row in request.row_params] == [1, 0]
    assert (request.num_samples, request.draw_offset, request.priority) == (5, 7, -3)
    assert list(request.outputs.logprobs) == [pb.LOGPROB_KIND_RAW]
    assert list(request.outputs.entropy) == [pb.LOGPROB_KIND_PROCESSED]
    assert parsed(distribution="d").distribution == "d"
    memory = parsed(shared_memory=SharedMemory(key="/k", rows=2, vocab_size=3, dtype="bf16")).shared_memory
    assert (memory.byte_size, memory.dtype) == (12, pb.DTYPE_BF16)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({}, ValueError, "exactly once"),
        ({"logits": [1.0], "distribution": "d"}, ValueError, "exactly once"),
        ({"logits": [1.0], "temprature": 1}, TypeError, "temprature"),
        ({"logits": [1.0], "seed": -1}, ValueError, "seed"),
        ({"logits": [1.0], "seed": 2**64}, ValueError, "seed"),
        ({"logits": [1.0], "row_seeds": [-1]}, ValueError, "row_seeds"),
        ({"logits": [1.0], "num_samples": -1}, ValueError, "num_samples"),
        ({"logits": [1.0], "top_k": -1}, ValueError, "top_k: must be a whole number from 0 to 4,294,967,295; got -1"),
        ({"logits": [1.0], "bad_words": [3]}, TypeError, r"bad_words: must be sequences of ids.*; got 3"),
        ({"logits": [1.0], "bad_words": ["no"]}, TypeError, r"bad_words: must be sequences of ids.*; got 'no'"),
        ({"logits": [1.0], "steps": "top_k"}, TypeError, r"steps: must be a sequence of names, as in \['top_k'\]"),
        ({"logits": [1.0], "dry": {"multiplier": 1.0}}, TypeError, "dry: must be of the class Dry of samplerd_client"),
        ({"logits": [1.0], "top_k": 1.5}, TypeError, "top_k"),
        ({"logits": [1.0], "temperature": "hot"}, TypeError, "temperature"),
        ({"logits": [1.0], "temperature": 1.0, "params": SamplingParams()}, ValueError, "not two of them"),
        ({"logits": [1.0], "logprobs": ["cooked"]}, ValueError, "cooked"),
        ({"logits": [1.0], "order": "random"}, ValueError, "order"),
    ],
)
def test_misuse(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        parsed(arguments.pop("logits", None), **arguments)


ODD = st.sampled_from([0, 1, True, False, 1.0, 0.0, -0.0, 2, "raw", None, ("raw",), ("raw", "scaled"), 2**40, "1"])


@given(calls=st.lists(st.dictionaries(st.sampled_from(["temperature", "top_k", "rank", "logprobs"]), ODD), max_size=6))
def test_a_remembered_recipe_is_that_of_its_call(calls: list[dict[str, Any]]) -> None:
    """1, 1.0 and True are equal to Python, and not to a field."""

    def outcome(call: dict[str, Any]) -> Any:
        try:
            return build([1.0], dict(call)).encode()  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            return type(error), str(error)

    remembered = [outcome(call) for call in calls]
    for call, expected in zip(calls, remembered, strict=True):
        request_module._templates.clear()
        assert outcome(call) == expected


def test_recipes_are_bounded_and_small() -> None:
    request_module._templates.clear()
    for k in range(3 * request_module._MAX_TEMPLATES):
        build([1.0], {"top_k": k})
    assert 0 < len(request_module._templates) <= request_module._MAX_TEMPLATES
    request_module._templates.clear()
    build([1.0], {"distribution": None, "logprobs": ("raw",) * 10_000})
    build([1.0], {"history": [1, 2, 3]})
    assert not request_module._templates, "neither long nor changeable"


def test_candidates_keep_all_of_the_mass() -> None:
    logits = np.random.default_rng(1).normal(size=(3, 50)).astype(np.float32)
    logits[2, 10:] = -np.inf
    message = Candidates.from_logits(logits, 8).to_proto()
    for row, entry in zip(logits.astype(np.float64), message.row, strict=True):
        assert sorted(entry.ids) == sorted(np.argsort(-row, kind="stable")[:8].tolist())
        total = np.log(np.exp(np.array(entry.logits)).sum() + np.exp(entry.rest_logsumexp))
        assert total == pytest.approx(np.log(np.exp(row).sum()), abs=1e-6)
    whole = Candidates.from_logits(logits[:1], 99).to_proto()
    assert len(whole.row[0].ids) == 50
    assert whole.row[0].rest_logsumexp == -np.inf
    with pytest.raises(ValueError, match="one entry for each row"):
        Candidates(ids=[[1]], logits=[], vocab_size=3).to_proto()


@pytest.mark.parametrize(
    "mask",
    [
        b"\xff\xff\xff\xff\x03\0\0\0",
        bytearray(b"\xff\xff\xff\xff\x03\0\0\0"),
        np.array([-1, 3], dtype=np.int32),
        np.array([2**32 - 1, 3], dtype=np.uint32),
        torch.tensor([-1, 3], dtype=torch.int32),
    ],
)
def test_bitmasks(mask: Any) -> None:
    assert SamplingParams(token_bitmask=mask).to_proto().token_bitmask == b"\xff\xff\xff\xff\x03\0\0\0"


@pytest.mark.parametrize(
    ("mask", "error"),
    [
        ([1, 2], TypeError),
        (3, TypeError),
        (np.array([0.5]), TypeError),
        (np.ma.MaskedArray([1, 2], mask=[True, False]), ValueError),
    ],
)
def test_what_is_no_bitmask(mask: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="token_bitmask"):
        SamplingParams(token_bitmask=mask).to_proto()


def test_candidates_of_rows_of_any_kind() -> None:
    rows = np.array([[1.0, 3.0, 2.0]], dtype=np.float32)
    wanted = Candidates.from_logits(rows, 2).to_proto()
    assert sorted(wanted.row[0].ids) == [1, 2]
    assert Candidates.from_logits(torch.tensor(rows).bfloat16(), 2).to_proto() == wanted
    assert Candidates.from_logits(rows[0].tolist(), 2).to_proto() == wanted
    with pytest.raises(ValueError, match="masked"):
        Candidates.from_logits(np.ma.MaskedArray(rows, mask=[[True, False, False]]), 2)
