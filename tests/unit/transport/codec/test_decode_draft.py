"""Decoding of drafts: what is malformed is refused with the path of its field, what is valid becomes what was sent."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.config import LimitsConfig
from samplerd_server.core.enums import Dtype, InputKind, Order
from samplerd_server.core.errors import Code, InvalidRequestError, NotImplementedFieldError
from samplerd_server.core.params import SamplingParams
from samplerd_server.core.rows import DenseRows
from samplerd_server.transport.codec import decode_draft
from samplerd_server.transport.codec.decode import Decoder
from samplerd_server.transport.codec.decode_draft import DraftDecoder
from tests.support.requests import tensor

Change = Callable[[pb.VerifyDraftRequest], object]
FILTERS = frozenset({"SamplingParams.top_k", "SamplingParams.order"})
BASIC = DraftDecoder(samples=Decoder(limits=LimitsConfig(), capabilities=FILTERS))


def good() -> pb.VerifyDraftRequest:
    """Two drafted tokens of a vocabulary of four."""
    return pb.VerifyDraftRequest(
        id=7, draft_ids=[3, 0], target=tensor(np.arange(12).reshape(3, 4)), draft=tensor(np.ones((2, 4)))
    )


@pytest.fixture(autouse=True, params=["parsed", "in place"])
def _reading(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs as for small messages, and as for large ones."""
    monkeypatch.setattr(decode_draft, "_WORTH_LOCATING", 0 if request.param == "in place" else 1 << 30)


def decoded(message: pb.VerifyDraftRequest, decoder: DraftDecoder = BASIC):
    return decoder.decode_bytes(message.SerializeToString())


def _set(path: str, value: object) -> Change:
    *parents, name = path.split(".")

    def change(message: pb.VerifyDraftRequest) -> None:
        target = message
        for parent in parents:
            target = getattr(target, parent)
        setattr(target, name, value)

    return change


def _ids(*ids: int) -> Change:
    def change(message: pb.VerifyDraftRequest) -> None:
        del message.draft_ids[:]
        message.draft_ids.extend(ids)

    return change


def _parents(*parents: int) -> Change:
    def change(message: pb.VerifyDraftRequest) -> None:
        del message.parents[:]
        message.parents.extend(parents)

    return change


def _row_params(*temperatures: float) -> Change:
    return lambda message: message.row_params.extend(pb.SamplingParams(temperature=t) for t in temperatures)


def _both_params(message: pb.VerifyDraftRequest) -> None:
    message.params.top_k = 1
    _row_params(1.0, 1.0, 1.0)(message)


MALFORMED: dict[str, tuple[Change, str]] = {
    "no target": (lambda message: message.ClearField("target"), "target"),
    "nothing at all": (lambda message: message.Clear(), "target"),
    "a target row too few": (lambda message: message.target.CopyFrom(tensor(np.zeros((2, 4)))), "target.rows"),
    "a target row too many": (lambda message: message.target.CopyFrom(tensor(np.zeros((4, 4)))), "target.rows"),
    "a target of no numbers": (_set("target.vocab_size", 0), "target.vocab_size"),
    "a target beyond the vocabulary's limit": (_set("target.vocab_size", 2**32 - 1), "target.vocab_size"),
    "a target beyond the rows' limit": (_set("target.rows", 2**32 - 1), "target.rows"),
    "a target one byte short": (_set("target.data", bytes(47)), "target.data"),
    "a target one byte long": (_set("target.data", bytes(49)), "target.data"),
    "a target of another dtype": (_set("target.dtype", pb.DTYPE_F16), "target.data"),
    "a target of an unknown dtype": (_set("target.dtype", 5), "target.dtype"),
    "no drafted tokens": (_ids(), "draft_ids"),
    "a token too few": (_ids(1), "target.rows"),
    "a token too many": (_ids(1, 2, 3), "target.rows"),
    "a token beyond the vocabulary": (_ids(1, 4), "draft_ids[1]"),
    "a negative token": (_ids(-1, 1), "draft_ids[0]"),
    "a token at the end of int32": (_ids(2**31 - 1, 1), "draft_ids[0]"),
    "a parent too few": (_parents(-1), "parents"),
    "a parent too many": (_parents(-1, -1, -1), "parents"),
    "a parent below the root": (_parents(-2, -1), "parents[0]"),
    "a token that follows itself": (_parents(0, -1), "parents[0]"),
    "a token that follows a later one": (_parents(1, -1), "parents[0]"),
    "a cycle": (_parents(-1, 1), "parents[1]"),
    "a parent that is no token": (_parents(-1, 2), "parents[1]"),
    "a parent at the end of int32": (_parents(-1, 2**31 - 1), "parents[1]"),
    "a draft row too few": (lambda message: message.draft.CopyFrom(tensor(np.ones((1, 4)))), "draft.rows"),
    "a draft row too many": (lambda message: message.draft.CopyFrom(tensor(np.ones((3, 4)))), "draft.rows"),
    "a draft of another vocabulary": (
        lambda message: message.draft.CopyFrom(tensor(np.ones((2, 3)))),
        "draft.vocab_size",
    ),
    "a draft of no numbers": (_set("draft.vocab_size", 0), "draft.vocab_size"),
    "an empty draft": (lambda message: message.draft.CopyFrom(pb.Tensor()), "draft.vocab_size"),
    "a draft one byte short": (_set("draft.data", bytes(31)), "draft.data"),
    "a draft of another dtype": (_set("draft.dtype", pb.DTYPE_F64), "draft.data"),
    "a draft of an unknown dtype": (_set("draft.dtype", -1), "draft.dtype"),
    "an unknown kind": (_set("kind", 3), "kind"),
    "NaN temperature": (_set("params.temperature", math.nan), "params.temperature"),
    "infinite temperature": (_set("params.temperature", math.inf), "params.temperature"),
    "negative temperature": (_set("params.temperature", -1.0), "params.temperature"),
    "params beside row_params": (_both_params, "row_params"),
    "too few row_params": (_row_params(1.0, 1.0), "row_params"),
    "too many row_params": (_row_params(1.0, 1.0, 1.0, 1.0), "row_params"),
    "NaN temperature of one row": (_row_params(1.0, 1.0, math.nan), "row_params[2].temperature"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_draft_is_refused_with_its_field(name):
    change, path = MALFORMED[name]
    message = good()
    change(message)
    with pytest.raises(InvalidRequestError) as caught:
        decoded(message)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.field == path
    assert caught.value.message == f"{path}: {caught.value.description}"
    assert caught.value.description


# In the order in which they are looked at.
FAULTS: list[tuple[Change, str]] = [
    (_set("target.dtype", 99), "target.dtype: 99 is not a known Dtype"),
    (_set("target.data", bytes(5)), "target.data: 5 bytes, but "),
    (_set("params.temperature", -1.0), "params.temperature: "),
    (_set("kind", 7), "kind: 7 is not a known InputKind"),
    (_ids(3), "target.rows: 3 rows for 1 drafted tokens; one more than tokens is needed"),
    (_ids(0, 4), "draft_ids[1]: 4 is not in [0, 4)"),
    (_parents(-1, 1), "parents[1]: 1 is not in [-1, 1); a token stands after the one that it follows"),
    (_set("draft.rows", 3), "draft.data: "),
]


@pytest.mark.parametrize("first", range(len(FAULTS)))
def test_the_first_fault_is_named_and_hides_the_later(first):
    for later in range(first, len(FAULTS)):
        message = good()
        FAULTS[later][0](message)
        FAULTS[first][0](message)
        with pytest.raises(InvalidRequestError) as caught:
            decoded(message)
        assert caught.value.message.startswith(FAULTS[first][1])


def test_a_target_is_bounded_as_a_request_for_one_sample_of_each_row():
    decoder = replace(BASIC, samples=replace(BASIC.samples, limits=LimitsConfig(max_samples=2)))
    with pytest.raises(InvalidRequestError) as caught:
        decoded(good(), decoder)
    assert caught.value.message == "num_samples: 3 rows x 1 samples are more than the limit of 2"


def test_what_is_no_message_is_refused():
    for data in (b"\xff", b"\x12\x05"):  # a cut varint, a cut message
        with pytest.raises(InvalidRequestError) as caught:
            BASIC.decode_bytes(data)
        assert caught.value.message == "request: not a VerifyDraftRequest"


def test_everything_is_what_was_sent():
    message = good()
    message.params.CopyFrom(pb.SamplingParams(temperature=0.0, top_k=2, order=pb.ORDER_VLLM))
    message.seed, message.draw_offset, message.kind = 2**64 - 1, 2**64 - 1, pb.INPUT_KIND_PROBABILITIES
    request = decoded(message)
    assert (request.id, request.draft_ids.tolist(), request.draft_ids.dtype) == (7, [3, 0], np.int32)
    target = request.target
    assert (target.id, target.num_samples, target.with_replacement, target.row_seeds) == (7, 1, True, None)
    assert (target.seed, target.draw_offset, target.kind) == (2**64 - 1, 2**64 - 1, InputKind.PROBABILITIES)
    assert target.params == (SamplingParams(temperature=0.0, top_k=2, order=Order.VLLM, is_plain=False),)
    assert bytes(target.source.data) == message.target.data
    draft = DenseRows(dtype=Dtype.F32, rows=2, vocab_size=4, data=message.draft.data)
    assert replace(request.draft, address=0) == draft


def test_parents_are_those_that_were_sent_or_a_chain():
    message = good()
    assert decoded(message).parents.tolist() == [-1, 0]
    for parents in ([-1, 0], [-1, -1]):
        del message.parents[:]
        message.parents.extend(parents)
        request = decoded(message)
        assert (request.parents.tolist(), request.parents.dtype) == (parents, np.int32)


def test_what_a_draft_counts_as():
    message = good()
    message.params.temperature = 0.0
    with_draft = decoded(message)
    message.ClearField("draft")
    without = decoded(message)
    assert (with_draft.rows, with_draft.greedy_rows, with_draft.priority) == (3, 3, 0)
    assert (with_draft.size_bytes, without.size_bytes) == (48 + 32, 48)
    assert with_draft.work > without.work > 0


def test_defaults():
    message = good()
    message.ClearField("draft")
    request = decoded(message)
    assert request.draft is None
    assert (request.target.params, request.target.kind) == ((SamplingParams(),), InputKind.LOGITS)
    assert request.target.draw_offset == 0


def test_a_draft_without_a_seed_gets_a_random_one():
    assert len({decoded(good()).target.seed for _ in range(50)}) == 50
    message = good()
    message.seed = 0
    assert {decoded(message).target.seed for _ in range(5)} == {0}


def test_parameters_of_each_row():
    message = good()
    _row_params(0.0, 0.5, 2.0)(message)
    request = decoded(message)
    assert [own.temperature for own in request.target.params] == [0.0, 0.5, 2.0]
    assert request.greedy_rows == 1


def test_no_rows_of_a_draft_means_one():
    draft = tensor(np.ones((1, 4)))
    draft.rows = 0
    request = decoded(pb.VerifyDraftRequest(draft_ids=[1], target=tensor(np.zeros((2, 4))), draft=draft))
    assert request.draft.rows == 1


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8"])
def test_target_and_draft_may_be_of_different_dtypes(dtype):
    message = good()
    message.draft.CopyFrom(tensor(np.ones((2, 4)), dtype))
    request = decoded(message)
    assert request.target.source.dtype is Dtype.F32
    assert request.draft.dtype.itemsize == np.dtype(dtype).itemsize


def test_a_field_that_the_sampler_lacks_is_named():
    message = good()
    message.params.min_p = 0.1
    with pytest.raises(NotImplementedFieldError) as caught:
        decoded(message)
    assert caught.value.name == "params.min_p"


def test_limits_are_those_of_the_configuration():
    limits = LimitsConfig(max_rows=2, max_vocab_size=4)
    decoder = replace(BASIC, samples=replace(BASIC.samples, limits=limits))
    with pytest.raises(InvalidRequestError) as caught:
        decoded(good(), decoder)
    assert caught.value.field == "target.rows"
