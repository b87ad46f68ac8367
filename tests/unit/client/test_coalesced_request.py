"""Calls of one row as one request, and its reply taken apart, with what each would have been alone as the judge."""

from __future__ import annotations

import asyncio
import copy
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client import (
    Candidates,
    ConnectionLostError,
    DeadlineError,
    FieldViolation,
    InternalError,
    InvalidRequestError,
    NotFoundError,
    NotImplementedFieldError,
    OverloadedError,
    PermissionDeniedError,
    RowError,
    RowErrorReason,
    RowsFailedError,
    SampleResult,
    SamplingParams,
    UnauthenticatedError,
    UnavailableError,
)
from samplerd_client.coalesced_request import Call, blame, decode, encode, key_of
from samplerd_client.request import build
from samplerd_client.result import assemble
from tests.support.fake_sampler import reply_to, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from samplerd_client.errors import SamplerdError


LOOP: asyncio.AbstractEventLoop


@pytest.fixture(scope="module", autouse=True)
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Futures need one; it never runs."""
    global LOOP  # noqa: PLW0603  # hypothesis calls functions, not fixtures
    LOOP = asyncio.new_event_loop()
    yield LOOP
    LOOP.close()


def call_of(logits: Any, **options: Any) -> Call:
    prepared = build(logits, options)  # type: ignore[arg-type]
    return Call(prepared, LOOP.create_future(), math.inf)


def several(count: int = 4, **options: Any) -> list[Call]:
    return [call_of([1.0, 2.0, 3.0], seed=at, **options) for at in range(count)]


params = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.sampled_from([0.0, 0.5, 1.0]),
        "top_k": st.sampled_from([0, 3]),
        "history": st.lists(st.integers(0, 2), max_size=3),
    },
)


@given(
    own=st.lists(st.tuples(params, st.none() | st.integers(0, 2**64 - 1)), min_size=2, max_size=8),
    common=st.fixed_dictionaries(
        {}, optional={"num_samples": st.just(3), "draw_offset": st.just(9), "priority": st.just(-2)}
    ),
    dtype=st.sampled_from(["f32", "f16", "bf16", "f64"]),
)
def test_a_request_says_of_each_row_what_its_call_said(own: list[Any], common: dict[str, Any], dtype: str) -> None:
    rows = np.arange(len(own) * 5, dtype=np.float32).reshape(-1, 5)
    calls = [
        call_of(row, seed=seed, dtype=dtype, **said, **common) for row, (said, seed) in zip(rows, own, strict=True)
    ]
    request = pb.SampleRequest.FromString(encode(calls))
    assert not request.HasField("seed")
    assert request.tensor.rows == len(own)
    assert np.array_equal(rows_of(request), rows)
    assert list(request.row_seeds) == [call.seed for call in calls]
    for at, (call, (_, seed)) in enumerate(zip(calls, own, strict=True)):
        alone = pb.SampleRequest.FromString(call.prepared.encode())
        assert (request.row_params[at] if request.row_params else request.params) == alone.params
        assert seed in {None, call.seed}
        for name in ("num_samples", "draw_offset", "priority", "outputs", "kind", "replacement"):
            assert getattr(request, name) == getattr(alone, name)
        assert (request.tensor.dtype, request.tensor.vocab_size) == (alone.tensor.dtype, alone.tensor.vocab_size)


@pytest.mark.parametrize("seed", [None, 0, 2**64 - 1])
def test_one_call_is_sent_as_ever(seed: int | None) -> None:
    call = call_of([1.0, 2.0], seed=seed, temperature=0.5, top_n=2, logprobs="raw")
    assert pb.SampleRequest.FromString(encode([call])) == pb.SampleRequest.FromString(call.prepared.encode())
    assert call.seed == seed


def test_unseeded_calls_get_seeds_that_they_keep() -> None:
    calls = [call_of([1.0, 2.0]) for _ in range(100)]
    first = pb.SampleRequest.FromString(encode(calls))
    assert len(set(first.row_seeds)) == 100
    assert max(first.row_seeds) > 2**56
    assert list(pb.SampleRequest.FromString(encode(calls[50:])).row_seeds) == list(first.row_seeds)[50:]


def test_equal_parameters_are_sent_once() -> None:
    request = pb.SampleRequest.FromString(encode(several(temperature=0.5, history=[1])))
    assert (request.params.temperature, list(request.row_params)) == (0.5, [])
    request = pb.SampleRequest.FromString(encode([*several(2), *several(2, temperature=0.0)]))
    assert [row.HasField("temperature") for row in request.row_params] == [False, False, True, True]
    assert not pb.SampleRequest.FromString(encode(several())).HasField("params")


def test_who_shares_with_whom() -> None:
    def key(logits: Any = (1.0, 2.0, 3.0), **options: Any) -> Any:
        return key_of(build(None if logits is None else list(logits), options))  # type: ignore[arg-type]

    base = key()
    assert base is not None
    for same in (key(seed=3), key(temperature=0.5, history=[1]), key([3, 2, 1]), key(params=SamplingParams(top_p=0.5))):
        assert same == base
    different = [
        key([1.0, 2.0]),
        key(dtype="f16"),
        key(num_samples=2),
        key(draw_offset=1),
        key(priority=1),
        key(probabilities=True),
        key(replacement=False),
        key(rank=True),
        key(logprobs="raw"),
        key(logprobs="raw", top_n=1),
        key(logprobs="raw", logprob_ids=[1]),
        key(entropy="raw"),
        key(kept=True),
        key(adaptive_state=True),
    ]
    assert len({base, *different}) == len(different) + 1
    candidates = Candidates(ids=[[1]], logits=[[1.0]], vocab_size=3)
    for alone in (
        key([[1.0], [2.0]]),
        key(row_seeds=[1]),
        key(row_params=[SamplingParams()]),
        key(None, candidates=candidates),
        key(None, distribution="d"),
        key(None, values=[[1.0]]),
    ):
        assert alone is None


OUTPUTS: list[dict[str, Any]] = [
    {},
    {"logprobs": ("raw", "processed"), "rank": True, "entropy": "scaled", "kept": True, "adaptive_state": True},
    {"logprobs": "scaled", "top_n": 2, "logprob_ids": [0, 2, 1]},
]


def same(one: SampleResult, other: SampleResult) -> bool:
    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {kind: plain(own) for kind, own in value.items()}
        return (value.dtype, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value

    names = [name for name in SampleResult.__dataclass_fields__ if name != "timing"]
    return all(plain(getattr(one, name)) == plain(getattr(other, name)) for name in names)


@pytest.mark.parametrize("outputs", OUTPUTS)
@pytest.mark.parametrize("num_samples", [1, 3])
def test_each_call_gets_what_it_would_have_got_alone(outputs: dict[str, Any], num_samples: int) -> None:
    rows = np.random.default_rng(0).normal(size=(5, 4))
    calls = [call_of(row, seed=at, num_samples=num_samples, **outputs) for at, row in enumerate(rows)]
    results = decode(reply_to(pb.SampleRequest.FromString(encode(calls))), calls)
    for call, result in zip(calls, results, strict=True):
        alone = assemble([reply_to(pb.SampleRequest.FromString(call.prepared.encode()))], call.prepared.template)
        assert isinstance(result, SampleResult)
        assert same(result, alone)
        assert result.timing.batch_rows == 5
        arrays = [result.samples, *result.logprobs.values(), *result.top_ids.values(), *result.entropies.values()]
        assert all(array.flags.owndata and array.flags.writeable for array in arrays)


@pytest.mark.parametrize("outputs", OUTPUTS)
def test_a_failed_row_is_a_failed_call(outputs: dict[str, Any]) -> None:
    calls = [call_of([1.0, math.nan if at in {1, 3} else 2.0, 0.0], **outputs) for at in range(4)]
    outcomes = decode(reply_to(pb.SampleRequest.FromString(encode(calls))), calls)
    assert [isinstance(outcome, RowsFailedError) for outcome in outcomes] == [False, True, False, True]
    error = outcomes[3]
    assert isinstance(error, RowsFailedError)
    assert error.row_errors == (RowError(row=0, reason=RowErrorReason.NAN, message="the row holds a NaN"),)
    assert outcomes[1] is not error


def test_a_reply_that_does_not_fit() -> None:
    calls = several(4, rank=True)
    reply = reply_to(pb.SampleRequest.FromString(encode(calls)))
    for spoil in (
        lambda own: own.ranks.pop(),
        lambda own: setattr(own, "raw_samples", own.raw_samples[:-4]),
        lambda own: own.row_errors.add(row=4),
    ):
        wrong = copy.deepcopy(reply)
        spoil(wrong)
        with pytest.raises(InternalError):
            decode(wrong, calls)
    plain = several(4)
    reply = reply_to(pb.SampleRequest.FromString(encode(several(3))))
    with pytest.raises(InternalError, match="3 samples for 4 rows"):
        decode(reply, plain)
    wide = several(4, entropy="raw")
    with pytest.raises(InternalError, match="not of 4 rows"):
        decode(reply_to(pb.SampleRequest.FromString(encode(several(3, entropy="raw")))), wide)


# ------------------------------------------------------------------------------------------------------- errors


def invalid(*fields: str) -> InvalidRequestError:
    violations = tuple(FieldViolation(field=field, description="no") for field in fields)
    return InvalidRequestError(f"{fields[0]}: no", reason="INVALID_REQUEST", violations=violations)


def test_a_failed_request_of_one_call_is_its_own() -> None:
    error = invalid("anything")
    assert blame(error, several(1)) == {0: error}


def test_a_field_of_one_call() -> None:
    blamed = blame(invalid("row_params[2].logit_bias[1].id"), several())
    assert list(blamed) == [2]
    error = blamed[2]
    assert isinstance(error, InvalidRequestError)
    assert (error.message, str(error), error.reason) == (*["params.logit_bias[1].id: no"] * 2, "INVALID_REQUEST")
    assert error.violations == (FieldViolation(field="params.logit_bias[1].id", description="no"),)
    missing = NotImplementedFieldError("row_params[0].dry is not implemented by this server")
    missing.name = "row_params[0].dry"
    (renamed,) = blame(missing, several()).values()
    assert isinstance(renamed, NotImplementedFieldError)
    assert (renamed.name, renamed.message) == ("params.dry", "params.dry is not implemented by this server")
    assert (missing.name, missing.args) == ("row_params[0].dry", (missing.message,)), "the original is as it was"


@pytest.mark.parametrize("field", ["params.top_p", "outputs.top_n", "draw_offset", "priority"])
def test_a_field_that_all_share(field: str) -> None:
    error = invalid(field)
    error.__cause__ = KeyError()
    blamed = blame(error, several())
    assert list(blamed) == [0, 1, 2, 3]
    assert len({id(own) for own in blamed.values()}) == 4, "a traceback belongs to one"
    for own in blamed.values():
        assert (type(own), own.message, own.__cause__) == (InvalidRequestError, error.message, error.__cause__)
        assert vars(own) == vars(error)


@pytest.mark.parametrize(
    "error",
    [
        OverloadedError("full", reason="QUEUE_ROWS", retry_after_s=0.25),
        UnavailableError("gone"),
        DeadlineError("late"),
        ConnectionLostError("closed"),
        UnauthenticatedError("who"),
        PermissionDeniedError("no"),
    ],
)
def test_what_has_nothing_to_do_with_the_request_befalls_all(error: SamplerdError) -> None:
    blamed = blame(error, several())
    assert list(blamed) == [0, 1, 2, 3]
    assert all(type(own) is type(error) and vars(own) == vars(error) for own in blamed.values())


@pytest.mark.parametrize(
    "error",
    [
        invalid("tensor.rows"),
        invalid("num_samples"),
        invalid("source"),
        invalid("row_params[4].top_p"),
        invalid("row_params[1].top_p", "row_params[2].top_p"),
        invalid("parameters"),
        InvalidRequestError("no details"),
        InternalError("a bug"),
        NotFoundError("what"),
        NotImplementedFieldError("Sample"),
    ],
)
def test_nobody_is_to_blame(error: SamplerdError) -> None:
    assert blame(error, several()) == {}


def test_all_rows_failed() -> None:
    """The server names the first sixteen."""
    named = tuple(RowError(row=at, reason=RowErrorReason.NAN, message="a NaN") for at in (0, 2, 9))
    blamed = blame(RowsFailedError("row[0]: all 4 rows failed; the first: a NaN", row_errors=named), several())
    assert list(blamed) == [0, 2]
    error = blamed[2]
    assert isinstance(error, RowsFailedError)
    assert (error.message, error.reason) == ("row[0]: the only row failed: a NaN", "ALL_ROWS_FAILED")
    assert error.row_errors == (RowError(row=0, reason=RowErrorReason.NAN, message="a NaN"),)


def test_settling_an_answered_call_does_nothing() -> None:
    (call,) = several(1)
    call.fail(KeyError("first"))
    call.settle(None)
    call.fail(ValueError("second"))
    assert isinstance(call.reply.exception(), KeyError)
