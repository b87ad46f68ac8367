"""The vectors: fresh, complete, and what every sampler answers."""

import base64
import json
import math

import pytest

from client.conformance.generate import PATH, vectors
from client.conformance.servers import samplerd
from client.python.conformance import Runner, is_same
from samplerd.v1 import sampler_pb2 as pb


@pytest.fixture(scope="module")
def stored():
    return json.loads(PATH.read_text())


def test_they_are_fresh(stored):
    assert vectors() == stored


def test_the_worked_example(stored):
    """Numbers of docs/sampling.md, not worked out by our own code."""
    [logprobs] = stored["calls"][0]["reply"]["logprobs"]
    assert [round(math.exp(value), 4) for value in logprobs["named"]] == [0.1298, 0.5416, 0.0635, 0.2651]
    assert stored["calls"][1]["reply"]["samples"] == [1] * 5


def requests(stored):
    return [
        pb.SampleRequest.FromString(base64.b64decode(call["request"]))
        for call in stored["calls"]
        if call["rpc"] == "Sample" and "reply" in call
    ]


def test_every_parameter_is_tried(stored):
    tried = {field.name for request in requests(stored) for field, _ in request.params.ListFields()}
    assert tried == set(pb.SamplingParams.DESCRIPTOR.fields_by_name)


def test_every_output_is_tried(stored):
    tried = {field.name for request in requests(stored) for field, _ in request.outputs.ListFields()}
    assert tried == set(pb.Outputs.DESCRIPTOR.fields_by_name)


def test_every_field_of_a_request_is_tried(stored):
    tried = {field.name for request in requests(stored) for field, _ in request.ListFields()}
    of_the_servers_host = {"shared_memory", "cuda_shared_memory"}
    assert tried == set(pb.SampleRequest.DESCRIPTOR.fields_by_name) - of_the_servers_host


def test_every_row_error_is_tried(stored):
    errors = [error for call in stored["calls"] if "reply" in call for error in call["reply"].get("row_errors", [])]
    assert {error["reason"] for error in errors} == set(pb.RowErrorReason.values()) - {0}


@pytest.mark.parametrize(
    "flags",
    [
        *(("--kernel", "numba"), ("--kernel", "torch")),
        pytest.param(("--device", "interpret"), marks=[pytest.mark.interpret, pytest.mark.timeout(1_800)]),
    ],
    ids=lambda flags: flags[1],
)
async def test_every_sampler_gives_these_replies(flags):
    with samplerd(*flags) as server:
        runner = Runner(target=server.target, vectors=PATH)
        await runner.calls()
        await runner.arrays()


def test_comparing_replies():
    assert is_same({"a": [1.0, "NaN"], "timing": {}}, {"a": [1.00001, "NaN"]}, 1e-4)
    assert not is_same({"a": [1.0]}, {"a": [1.001]}, 1e-4)
    assert not is_same({"a": [1]}, {"a": [2]}, 1e-4)
    assert not is_same({"a": [1, 2]}, {"a": [1]}, 1e-4)
    assert not is_same({"a": 1, "b": 2}, {"a": 1}, 1e-4)
    assert not is_same({}, {"a": 1}, 1e-4)
    assert not is_same({"a": 0.5}, {"a": "NaN"}, 1e-4)
