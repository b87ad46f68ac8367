"""Drafts on the client's side: from arguments to the bytes of a request, with protobuf's own parser as the judge."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client import InternalError, RowErrorReason, RowsFailedError, SamplingParams
from samplerd_client.draft import build_draft, decode_verdict

TARGET = np.arange(12, dtype=np.float32).reshape(3, 4)
DRAFT = np.full((2, 4), 0.25)


def parsed(target: Any = TARGET, ids: Any = (1, 2), draft: Any = None, **options: Any) -> pb.VerifyDraftRequest:
    return pb.VerifyDraftRequest.FromString(build_draft(target, ids, draft, options).encode(7))  # type: ignore[arg-type]


def test_everything_arrives() -> None:
    request = parsed(
        draft=DRAFT,
        ids=np.array([3, 0]),
        seed=2**64 - 1,
        draw_offset=5,
        probabilities=True,
        temperature=0.5,
        top_k=3,
    )
    assert (request.id, list(request.draft_ids)) == (7, [3, 0])
    assert (request.seed, request.draw_offset) == (2**64 - 1, 5)
    assert request.kind == pb.INPUT_KIND_PROBABILITIES
    assert (request.params.temperature, request.params.top_k) == (0.5, 3)
    assert (request.target.dtype, request.target.rows, request.target.vocab_size) == (pb.DTYPE_F32, 3, 4)
    assert request.target.data == TARGET.tobytes()
    assert (request.draft.dtype, request.draft.rows, request.draft.vocab_size) == (pb.DTYPE_F64, 2, 4)
    assert request.draft.data == DRAFT.tobytes()


@pytest.mark.parametrize("draft", [None, DRAFT])
def test_the_bytes_are_protobufs(draft: Any) -> None:
    built = build_draft(TARGET, [1, 2], draft, {"seed": 1, "temperature": 0.5})
    assert built.encode(9) == pb.VerifyDraftRequest.FromString(built.encode(9)).SerializeToString(deterministic=True)


def test_the_parents_of_a_tree() -> None:
    assert list(parsed(parents=[-1, -1]).parents) == [-1, -1]
    assert list(parsed(parents=np.array([-1, 0])).parents) == [-1, 0]
    assert list(parsed(parents=None).parents) == []


def test_nothing_given_is_nothing_sent() -> None:
    request = parsed()
    assert {field.name for field, _ in request.ListFields()} == {"id", "draft_ids", "target"}


def test_a_draft_of_one_token_may_be_one_row() -> None:
    request = parsed(TARGET[:2], [1], DRAFT[0])
    assert (request.draft.rows, request.draft.vocab_size) == (1, 4)


def test_parameters_of_each_row() -> None:
    request = parsed(row_params=[SamplingParams(top_k=k) for k in (1, 2, 3)])
    assert [own.top_k for own in request.row_params] == [1, 2, 3]
    assert parsed(params=SamplingParams(min_p=0.5)).params.min_p == 0.5


def test_both_tensors_are_converted() -> None:
    request = parsed(draft=DRAFT, dtype="bf16")
    assert (request.target.dtype, request.draft.dtype) == (pb.DTYPE_BF16, pb.DTYPE_BF16)
    assert (len(request.target.data), len(request.draft.data)) == (24, 16)


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"num_samples": 2}, TypeError, "verify_draft() has no argument 'num_samples'"),
        ({"seed": -1}, ValueError, "seed"),
        ({"draw_offset": "x"}, TypeError, "draw_offset"),
        ({"temperature": 1.0, "params": SamplingParams()}, ValueError, "not two of them"),
        ({"ids": [2**31]}, ValueError, "draft_ids"),
        ({"ids": ["a"]}, TypeError, "draft_ids"),
        ({"parents": [-(2**31) - 1, 0]}, ValueError, "parents"),
        ({"parents": ["a"]}, TypeError, "parents"),
    ],
)
def test_arguments_that_make_no_request(options: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as caught:
        parsed(**options)
    assert text in str(caught.value)


def test_a_verdict() -> None:
    response = pb.VerifyDraftResponse(samples=[4, 5, 6], accepted=2, seed=9, rng="r", timing=pb.Timing(batch_rows=3))
    result = decode_verdict(response)
    assert (result.samples.tolist(), result.accepted, result.seed, result.rng) == ([4, 5, 6], 2, 9, "r")
    assert result.samples.dtype == np.int32
    assert result.samples.flags.writeable
    assert result.timing.batch_rows == 3
    assert result.raise_for_rows() is result
    assert (result.path.tolist(), result.path.dtype) == ([0, 1], np.int32), "a server that knows no trees names none"


def test_the_path_of_a_tree() -> None:
    result = decode_verdict(pb.VerifyDraftResponse(samples=[4, 5, 6], accepted=2, path=[1, 3]))
    assert (result.path.tolist(), result.path.dtype) == ([1, 3], np.int32)


def test_a_row_that_failed_raises_on_demand() -> None:
    response = pb.VerifyDraftResponse(samples=[4], accepted=1)
    response.row_errors.add(row=1, code=3, reason=pb.ROW_ERROR_REASON_NAN, message="NaN at id 0")
    result = decode_verdict(response)
    assert (result.samples.tolist(), result.row_errors[0].row) == ([4], 1)
    with pytest.raises(RowsFailedError, match="row 1: NaN at id 0") as caught:
        result.raise_for_rows()
    assert caught.value.row_errors[0].reason is RowErrorReason.NAN


@pytest.mark.parametrize(
    "response",
    [
        pb.VerifyDraftResponse(samples=[1, 2], accepted=2),
        pb.VerifyDraftResponse(samples=[1, 2], accepted=0),
        pb.VerifyDraftResponse(samples=[1], accepted=0, row_errors=[pb.RowError(row=0)]),
        pb.VerifyDraftResponse(samples=[1, 2, 3], accepted=2, path=[1]),
        pb.VerifyDraftResponse(samples=[1], accepted=0, path=[0]),
    ],
)
def test_a_verdict_that_makes_no_sense(response: pb.VerifyDraftResponse) -> None:
    with pytest.raises(InternalError, match="of which"):
        decode_verdict(response)
