from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.batching.ticket import NO_DEADLINE, Ticket
from samplerd_server.config.workload import LimitsConfig
from samplerd_server.core import held_bytes
from samplerd_server.core.params import Dry, SamplingParams
from samplerd_server.transport.codec.compiled import compiled_scan
from samplerd_server.transport.codec.decode import Decoder
from samplerd_server.transport.codec.decode_draft import DraftDecoder
from tests.support.requests import Reply, tensor

V = 50_000
CAPABILITIES = frozenset(
    {"SampleRequest.guidance", *(f"SamplingParams.{field.name}" for field in pb.SamplingParams.DESCRIPTOR.fields)}
)


@pytest.fixture(params=["compiled", "protobuf"])
def decoder(request):
    scan = compiled_scan() if request.param == "compiled" else None
    return Decoder(limits=LimitsConfig(), capabilities=CAPABILITIES, scan=scan)


@pytest.mark.parametrize(("owner", "names"), [(SamplingParams, held_bytes._LISTS), (Dry, held_bytes._DRY_LISTS)])
def test_every_list_of_the_parameters_counts(owner, names):
    assert {own.name for own in dataclasses.fields(owner) if "NDArray" in str(own.type)} == set(names)


@pytest.mark.parametrize("field", ["history", "allowed_tokens", "bad_words"])
def test_a_request_counts_its_rows_and_its_lists(decoder, field):
    ids = list(range(1000))
    params = pb.SamplingParams(temperature=0.5)
    if field == "bad_words":
        params.bad_words.add(ids=ids)
    elif field == "allowed_tokens":
        params.allowed_tokens.extend(ids)
    else:
        params.history.extend(ids)
        params.repetition_penalty = 1.1
    message = pb.SampleRequest(tensor=tensor(np.zeros((1, V))), params=params).SerializeToString()
    request = decoder.decode_bytes(message)
    assert request.size_bytes == 4 * V
    assert 4 * V + 4000 <= request.held_bytes <= 2 * len(message)


def test_guidance_in_the_same_message_counts_once(decoder):
    rows = tensor(np.zeros((2, V)))
    params = pb.SamplingParams(guidance_scale=2.0)
    message = pb.SampleRequest(tensor=rows, guidance=pb.Guidance(tensor=rows), params=params).SerializeToString()
    assert 16 * V <= decoder.decode_bytes(message).held_bytes < 16 * V + 1000


def test_a_draft_counts_both_of_its_tensors(decoder):
    message = pb.VerifyDraftRequest(target=tensor(np.zeros((3, V))), draft_ids=[1, 2], draft=tensor(np.ones((2, V))))
    message.kind = pb.INPUT_KIND_PROBABILITIES
    request = DraftDecoder(samples=decoder).decode_bytes(message.SerializeToString())
    ticket = Ticket(request, 0.0, NO_DEADLINE, "", Reply())
    assert 20 * V <= ticket.held_bytes < 20 * V + 1000
