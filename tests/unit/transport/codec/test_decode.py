"""Decoding: every malformed request is refused with the path of its field, every valid one becomes what was sent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.config import LimitsConfig
from samplerd_server.core.enums import Dtype, InputKind, LogprobKind, Order
from samplerd_server.core.errors import Code, InvalidRequestError, NotImplementedFieldError
from samplerd_server.core.outputs import OutputFlags
from samplerd_server.core.params import SamplingParams
from samplerd_server.core.rows import CandidateRows
from samplerd_server.sampling.parameters import PARAMETERS, ParamKind
from samplerd_server.transport.codec.decode import Decoder
from tests.support.malformed import MALFORMED, good, malformed
from tests.support.requests import tensor

BASIC = Decoder(limits=LimitsConfig(), capabilities=frozenset())
PARAMS = [f"SamplingParams.{field.name}" for field in pb.SamplingParams.DESCRIPTOR.fields]
IDS = {parameter.name for parameter in PARAMETERS if parameter.kind is ParamKind.IDS}
OUTPUTS = [f"Outputs.{field.name}" for field in pb.Outputs.DESCRIPTOR.fields]
SOURCES = ("SampleRequest.candidates", "SampleRequest.guidance")
FULL = Decoder(
    limits=LimitsConfig(),
    capabilities=frozenset([*PARAMS, *OUTPUTS, "Outputs.logprobs.processed", *SOURCES]),
)


def refusal(message: pb.SampleRequest, decoder: Decoder = FULL) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        decoder.decode(decoder.parse(message.SerializeToString()))
    return caught.value


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_request_is_refused_with_its_field(name):
    message, path = malformed(name)
    error = refusal(message)
    assert error.code is Code.INVALID_ARGUMENT
    assert error.field == path
    assert error.message == f"{path}: {error.description}"
    assert error.description


def test_the_request_that_the_malformed_ones_are_made_of_is_good():
    request = BASIC.decode(good())
    assert (request.id, request.rows, request.source.vocab_size) == (7, 2, 3)


def test_what_is_no_message_is_refused():
    for data in (b"\xff", b"\x0a\x05", b"\x72\x02\xff\xfe"):  # a cut varint, a cut message, no UTF-8 in a string
        with pytest.raises(InvalidRequestError) as caught:
            BASIC.parse(data)
        assert caught.value.field == "request"


# Sources and dtypes.


@pytest.mark.parametrize(
    ("number", "dtype", "itemsize"),
    [
        (pb.DTYPE_UNSPECIFIED, Dtype.F32, 4),
        (pb.DTYPE_F32, Dtype.F32, 4),
        (pb.DTYPE_F16, Dtype.F16, 2),
        (pb.DTYPE_BF16, Dtype.BF16, 2),
        (pb.DTYPE_F64, Dtype.F64, 8),
    ],
)
def test_a_tensor_of_each_dtype(number, dtype, itemsize):
    data = bytes(range(2 * 3 * itemsize))
    source = BASIC.decode(pb.SampleRequest(tensor=pb.Tensor(dtype=number, rows=2, vocab_size=3, data=data))).source
    assert (source.dtype, source.rows, source.vocab_size, bytes(source.data)) == (dtype, 2, 3, data)
    assert source.size_bytes == len(data)


def test_no_rows_means_one():
    assert BASIC.decode(pb.SampleRequest(tensor=pb.Tensor(vocab_size=2, data=bytes(8)))).rows == 1


def test_values_become_float32_rows():
    message = pb.SampleRequest()
    for row in ([0.1, -2.5], [float("-inf"), float("nan")]):
        message.values.row.add(values=row)
    source = BASIC.decode(message).source
    assert (source.dtype, source.rows, source.vocab_size) == (Dtype.F32, 2, 2)
    expected = np.array([0.1, -2.5, -np.inf, np.nan], "<f4")
    assert bytes(source.data) == expected.tobytes()


def test_limits_are_those_of_the_configuration():
    limits = LimitsConfig(max_rows=2, max_vocab_size=3, max_samples=4)
    decoder = replace(BASIC, limits=limits)
    message = good()
    message.num_samples = 2
    assert decoder.decode(message).num_samples == 2
    message.num_samples = 3
    assert refusal(message, decoder).field == "num_samples"
    assert refusal(pb.SampleRequest(tensor=tensor(np.zeros((3, 1)))), decoder).field == "tensor.rows"
    assert refusal(pb.SampleRequest(tensor=tensor(np.zeros((1, 4)))), decoder).field == "tensor.vocab_size"
    wide = pb.SampleRequest()
    wide.values.row.add(values=[0.0] * 4)
    assert refusal(wide, decoder).field == "values.row[0].values"


# Scalars.


def test_everything_is_what_was_sent():
    message = good()
    message.params.temperature = 0.5
    message.num_samples = 9
    message.seed = 2**64 - 1
    message.replacement = pb.REPLACEMENT_WITH
    message.kind = pb.INPUT_KIND_PROBABILITIES
    message.draw_offset = 2**64 - 9
    message.priority = -100
    request = BASIC.decode(message)
    assert request.params == (SamplingParams(temperature=0.5),)
    assert (request.num_samples, request.seed, request.row_seeds) == (9, 2**64 - 1, None)
    assert request.with_replacement
    assert request.kind is InputKind.PROBABILITIES
    assert (request.draw_offset, request.priority) == (2**64 - 9, -100)
    assert request.outputs.output_flags == OutputFlags(0)


def test_defaults():
    request = BASIC.decode(good())
    assert request.params == (SamplingParams(),)
    assert (request.num_samples, request.with_replacement, request.kind) == (1, True, InputKind.LOGITS)
    assert (request.draw_offset, request.priority) == (0, 0)


def test_without_replacement():
    message = good()
    message.replacement = pb.REPLACEMENT_WITHOUT
    assert not BASIC.decode(message).with_replacement


def test_a_request_without_a_seed_gets_a_random_one():
    seeds = {BASIC.decode(good()).seed for _ in range(50)}
    assert len(seeds) == 50
    assert max(seeds) > 2**60


def test_a_seed_of_0_is_a_seed():
    message = good()
    message.seed = 0
    assert {BASIC.decode(message).seed for _ in range(5)} == {0}


def test_row_seeds_leave_the_seed_0():
    message = good()
    message.row_seeds.extend([2**64 - 1, 0])
    request = BASIC.decode(message)
    assert request.seed == 0
    assert request.row_seeds.tolist() == [2**64 - 1, 0]


def test_row_params_stand_in_the_order_of_the_rows():
    message = good()
    message.row_params.add(temperature=0.0)
    message.row_params.add()
    assert BASIC.decode(message).params == (SamplingParams(temperature=0.0), SamplingParams())


# Outputs.


def test_outputs():
    message = good()
    message.outputs.raw_samples = True
    message.outputs.logprobs.extend([pb.LOGPROB_KIND_PROCESSED, pb.LOGPROB_KIND_RAW, pb.LOGPROB_KIND_RAW])
    message.outputs.entropy.append(pb.LOGPROB_KIND_SCALED)
    message.outputs.top_n = 2
    message.outputs.logprob_ids.extend([2, 0, 2])
    message.outputs.rank = message.outputs.kept = message.outputs.adaptive_state = True
    outputs = FULL.decode(message).outputs
    assert outputs.logprobs == (LogprobKind.RAW, LogprobKind.PROCESSED)
    assert outputs.entropy == (LogprobKind.SCALED,)
    assert (outputs.raw_samples, outputs.top_n, outputs.rank, outputs.kept) == (True, 2, True, True)
    assert outputs.adaptive_state
    assert outputs.logprob_ids.tolist() == [2, 0, 2]
    assert (
        outputs.output_flags
        == OutputFlags.RAW
        | OutputFlags.PROCESSED
        | OutputFlags.ENTROPY_SCALED
        | OutputFlags.RANK
        | OutputFlags.KEPT
        | OutputFlags.ADAPTIVE
    )


def test_raw_and_scaled_logprobs_need_no_capability():
    message = good()
    message.outputs.logprobs.extend([pb.LOGPROB_KIND_SCALED, pb.LOGPROB_KIND_RAW])
    assert BASIC.decode(message).outputs.output_flags == OutputFlags.RAW | OutputFlags.SCALED


@pytest.mark.parametrize(
    ("outputs", "path"),
    [
        (pb.Outputs(top_n=1025, logprobs=[pb.LOGPROB_KIND_RAW]), "outputs.top_n"),
        (pb.Outputs(top_n=1), "outputs.top_n"),
        (pb.Outputs(logprob_ids=[1]), "outputs.logprob_ids"),
        (pb.Outputs(logprob_ids=[1, 3], logprobs=[pb.LOGPROB_KIND_RAW]), "outputs.logprob_ids[1]"),
        (pb.Outputs(logprob_ids=[-1], logprobs=[pb.LOGPROB_KIND_RAW]), "outputs.logprob_ids[0]"),
    ],
)
def test_bad_outputs_are_refused_with_their_field(outputs, path):
    message = good()
    message.outputs.CopyFrom(outputs)
    assert refusal(message).field == path


# What is not built says so.


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"params": pb.SamplingParams(top_k=1)}, "params.top_k"),
        ({"params": pb.SamplingParams(order=pb.ORDER_VLLM)}, "params.order"),
        ({"params": pb.SamplingParams(dry=pb.DryParams(multiplier=1))}, "params.dry"),
        ({"params": pb.SamplingParams(history=[1])}, "params.history"),
        ({"row_params": [pb.SamplingParams(), pb.SamplingParams(min_p=0.1)]}, "row_params[1].min_p"),
        ({"outputs": pb.Outputs(top_n=1)}, "outputs.top_n"),
        ({"outputs": pb.Outputs(rank=True)}, "outputs.rank"),
        ({"outputs": pb.Outputs(kept=True)}, "outputs.kept"),
        ({"outputs": pb.Outputs(adaptive_state=True)}, "outputs.adaptive_state"),
        ({"outputs": pb.Outputs(entropy=[1])}, "outputs.entropy"),
        ({"outputs": pb.Outputs(logprobs=[3])}, "outputs.logprobs.processed"),
        ({"outputs": pb.Outputs(logprob_ids=[0])}, "outputs.logprob_ids"),
        ({"distribution": "words"}, "distribution"),
        ({"candidates": pb.Candidates()}, "candidates"),
        ({"shared_memory": pb.SharedMemory()}, "shared_memory"),
    ],
)
def test_a_field_that_is_not_built_names_itself(change, name):
    message = good()
    message.MergeFrom(pb.SampleRequest(**change))
    with pytest.raises(NotImplementedFieldError) as caught:
        BASIC.decode(message)
    assert caught.value.name == name
    assert caught.value.code is Code.UNIMPLEMENTED
    assert name in caught.value.message


def test_every_parameter_but_temperature_needs_its_capability():
    for name in PARAMS:
        field = name.partition(".")[2]
        message = good()
        target = getattr(message.params, field)
        if isinstance(target, bytes):
            message.params.token_bitmask = b"\1\0\0\0"
        elif field == "dry":
            message.params.dry.multiplier = 1.0
        elif field == "logit_bias":
            message.params.logit_bias.add(id=1, bias=1.0)
        elif field in IDS or field == "steps":
            target.append(1)
        elif field == "bad_words":
            message.params.bad_words.add(ids=[1])
        else:
            setattr(
                message.params, field, (1.5 if field == "smoothing_curve" else 0.5) if isinstance(target, float) else 1
            )
        if field == "guidance_scale":
            message.guidance.tensor.CopyFrom(message.tensor)
        request = FULL.decode(message)
        assert request.params[0].is_plain == (field == "temperature")
        if field == "temperature":
            continue
        lacking = replace(FULL, capabilities=FULL.capabilities - {name})
        with pytest.raises(NotImplementedFieldError, match=f"params.{field} is not implemented"):
            lacking.decode(message)


# Guidance.


def guided(**source) -> pb.SampleRequest:
    """The good request, guided by rows from another source."""
    message = good()
    message.params.guidance_scale = 2.0
    message.guidance.CopyFrom(pb.Guidance(**source))
    return message


def test_guidance_rows_come_in_any_dtype_and_as_values():
    for number, stored in ((pb.DTYPE_F16, "<f2"), (pb.DTYPE_F64, "<f8")):
        data = np.arange(6).astype(stored).tobytes()
        message = guided(tensor=pb.Tensor(dtype=number, rows=2, vocab_size=3, data=data))
        request = FULL.decode(message)
        assert request.guidance is not None
        assert (request.guidance.dtype, bytes(request.guidance.data)) == (Dtype(number), data)
        assert request.size_bytes == 24 + len(data)
        assert request.work > FULL.decode(good()).work
    values = pb.Values(row=[pb.Values.Row(values=[1, 2, 3]), pb.Values.Row(values=[4, 5, 6])])
    request = FULL.decode(guided(values=values))
    assert request.guidance is not None
    assert np.frombuffer(request.guidance.data, "<f4").tolist() == [1, 2, 3, 4, 5, 6]


def test_malformed_guidance_values_are_named():
    ragged = pb.Values(row=[pb.Values.Row(values=[1, 2, 3]), pb.Values.Row(values=[4])])
    assert refusal(guided(values=ragged)).field == "guidance.values.row[1].values"
    assert refusal(guided(values=pb.Values())).field == "guidance.values.row"


def test_each_row_has_its_own_scale_but_not_all_may_be_one():
    message = good()
    message.guidance.tensor.CopyFrom(message.tensor)
    message.row_params.extend([pb.SamplingParams(guidance_scale=1.0), pb.SamplingParams(guidance_scale=3.0)])
    assert [own.guidance_scale for own in FULL.decode(message).params] == [1.0, 3.0]
    message.row_params[1].guidance_scale = 1.0
    assert refusal(message).description == "no row uses it: every guidance_scale is 1"
    message.row_params[1].guidance_scale = 2.0
    message.ClearField("guidance")
    assert refusal(message).field == "row_params[1].guidance_scale"


def test_candidates_cannot_be_guided():
    message = guided(tensor=tensor([[0, 1, 2]]))
    row = pb.Candidates.Row(ids=[1], logits=[1.0])
    message.candidates.CopyFrom(pb.Candidates(row=[row], vocab_size=3))
    assert refusal(message).field == "guidance"


def test_guidance_needs_its_capability():
    lacking = replace(FULL, capabilities=FULL.capabilities - {"SampleRequest.guidance"})
    with pytest.raises(NotImplementedFieldError, match="guidance is not implemented"):
        lacking.decode(guided(tensor=good().tensor))


# Candidates.


def candidates(**row) -> pb.SampleRequest:
    return pb.SampleRequest(candidates=pb.Candidates(vocab_size=4, row=[pb.Candidates.Row(**row)]))


def test_candidates_are_sorted_by_id():
    source = FULL.decode(candidates(ids=[3, 0, 2], logits=[1.0, 2.0, 3.0], rest_logsumexp=-1.5)).source
    assert isinstance(source, CandidateRows)
    assert (source.rows, source.vocab_size) == (1, 4)
    assert source.candidates[0].ids.tolist() == [0, 2, 3]
    assert source.candidates[0].logits.tolist() == [2.0, 3.0, 1.0]
    assert source.candidates[0].rest_logsumexp == -1.5


def test_candidates_without_a_rest_have_none():
    assert FULL.decode(candidates(ids=[1], logits=[0.0])).source.candidates[0].rest_logsumexp == -np.inf


@pytest.mark.parametrize(
    ("row", "path"),
    [
        ({}, "candidates.row[0].ids"),
        ({"ids": [1, 2], "logits": [0.0]}, "candidates.row[0].logits"),
        ({"ids": [1, 4], "logits": [0.0, 0.0]}, "candidates.row[0].ids[1]"),
        ({"ids": [-1], "logits": [0.0]}, "candidates.row[0].ids[0]"),
        ({"ids": [1, 1], "logits": [0.0, 0.0]}, "candidates.row[0].ids"),
        ({"ids": [1], "logits": [0.0], "rest_logsumexp": float("nan")}, "candidates.row[0].rest_logsumexp"),
        ({"ids": [1], "logits": [0.0], "rest_logsumexp": float("inf")}, "candidates.row[0].rest_logsumexp"),
        ({"ids": [0, 1, 2, 3], "logits": [0.0] * 4, "rest_logsumexp": 0.0}, "candidates.row[0].rest_logsumexp"),
    ],
)
def test_bad_candidates_are_refused_with_their_field(row, path):
    assert refusal(candidates(**row)).field == path


def test_candidates_have_limits_too():
    assert refusal(pb.SampleRequest(candidates=pb.Candidates(vocab_size=4))).field == "candidates.row"
    message = candidates(ids=[1], logits=[0.0])
    message.candidates.vocab_size = 0
    assert refusal(message).field == "candidates.vocab_size"
    many = pb.SampleRequest(candidates=pb.Candidates(vocab_size=4, row=[pb.Candidates.Row()] * 4097))
    assert refusal(many).field == "candidates.row"


def test_the_order_of_filters_is_taken_over():
    message = good()
    message.params.order = pb.ORDER_LLAMA_CPP
    assert FULL.decode(message).params[0].order is Order.LLAMA_CPP
