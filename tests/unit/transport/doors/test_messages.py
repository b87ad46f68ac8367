"""Requests, results and errors on their way: what arrives is what was sent, and nothing else is understood."""

from __future__ import annotations

import dataclasses
import gc
import math
import os
import pickle

import numpy as np
import pytest

from samplerd_server.core import errors
from samplerd_server.core.enums import Dtype, InputKind, LogprobKind, RowErrorReason
from samplerd_server.core.errors import DeadlineError, InvalidRequestError, OverloadedError, UnavailableError
from samplerd_server.core.outputs import NO_OUTPUTS, OutputFlags, Outputs
from samplerd_server.core.params import Dry, SamplingParams
from samplerd_server.core.request import SampleRequest, VerifyRequest
from samplerd_server.core.result import LogprobValues, RowError, SampleResult, Timing, VerifyResult
from samplerd_server.core.rows import CandidateRow, CandidateRows, DenseRows
from samplerd_server.transport.doors.arena import Arena
from samplerd_server.transport.doors.kinds import DEFINE
from samplerd_server.transport.doors.pickled import dump_error, dumps, load_error, loads
from samplerd_server.transport.doors.reply import Reply
from samplerd_server.transport.doors.requests import RequestReader, RequestWriter
from samplerd_server.transport.doors.results import read_result, write_result
from samplerd_server.transport.doors.window import Window


class Way:
    """From a door to the engine and back, through bytes."""

    def __init__(self) -> None:
        self.arena = Arena(1 << 22)
        self.writer = RequestWriter(self.arena)
        self.window = Window(os.dup(self.arena.descriptor))
        self.reader = RequestReader(self.window, None)
        self.defined = 0

    def send(self, request):
        written = loads(dumps(self.writer.write(request)))
        for kind, number, params, forgets in loads(dumps(self.writer.take_definitions())):
            assert kind == DEFINE
            self.defined += 1
            self.reader.known.define(number, params, forgets=forgets)
        return self.reader.read(written)

    def settle(self):
        self.writer.freed(self.window.take_returned())


@pytest.fixture
def way():
    return Way()


def plain(value):
    """What an entity says, without where its numbers lie."""
    if dataclasses.is_dataclass(value):
        named = {own.name: plain(getattr(value, own.name)) for own in dataclasses.fields(value)}
        return type(value).__name__, {name: own for name, own in named.items() if name not in {"address", "load"}}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, memoryview):
        return bytes(value)
    return (str(value.dtype), value.tolist()) if isinstance(value, np.ndarray) else value


def dense(rows=2, width=5, dtype=Dtype.F32):
    data = np.random.default_rng(rows).bytes(rows * width * dtype.itemsize)
    return DenseRows(dtype=dtype, rows=rows, vocab_size=width, data=data)


FULL = SamplingParams(
    temperature=0.5,
    history=np.arange(7, dtype=np.int32),
    token_bitmask=memoryview(b"\1\2\3\4"),
    dry=Dry(multiplier=1.0, sequence_breakers=np.array([3], np.int32)),
    is_plain=False,
)
REQUESTS = [
    SampleRequest(id=1, source=dense(), params=(SamplingParams(),), seed=2**64 - 1),
    SampleRequest(
        id=2,
        source=dense(3, 4, Dtype.BF16),
        guidance=dense(3, 4, Dtype.F16),
        params=(FULL, SamplingParams(temperature=0.0), FULL),
        row_seeds=np.array([1, 2**64 - 1, 3], np.uint64),
        num_samples=7,
        with_replacement=False,
        kind=InputKind.PROBABILITIES,
        draw_offset=2**63,
        outputs=Outputs(
            logprobs=(LogprobKind.RAW, LogprobKind.PROCESSED),
            top_n=2,
            logprob_ids=np.array([1, 2], np.int32),
            output_flags=OutputFlags.RAW | OutputFlags.PROCESSED,
        ),
        priority=-3,
        greedy_rows=1,
        work=12345,
        first_row=9,
        drawn=4,
        is_divisible=True,
    ),
    SampleRequest(
        id=3,
        source=CandidateRows(
            vocab_size=9,
            candidates=(
                CandidateRow(
                    ids=np.array([1, 5], np.int32), logits=np.array([0.5, 1], np.float32), rest_logsumexp=-math.inf
                ),
            ),
        ),
        params=(SamplingParams(top_k=3, is_plain=False),),
    ),
    VerifyRequest(
        id=4,
        target=SampleRequest(id=4, source=dense(3, 6), params=(SamplingParams(),)),
        draft_ids=np.array([1, 2], np.int32),
        parents=np.array([-1, 0], np.int32),
        draft=dense(2, 6),
    ),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda own: str(own.id))
def test_a_request_arrives_as_it_was_sent(way, request_):
    for _ in range(2):
        arrived = way.send(request_)
        assert plain(arrived) == plain(request_)
        assert (arrived.samples, arrived.size_bytes) == (request_.samples, request_.size_bytes)
        del arrived
        way.settle()
    assert way.arena.blocks == 0


def test_outputs_that_nobody_asked_for_are_the_ones_that_are_compared_by_identity(way):
    assert way.send(REQUESTS[0]).outputs is NO_OUTPUTS


def test_rows_that_were_copied_from_a_region_are_counted_as_such(way):
    loaded = way.send(dataclasses.replace(REQUESTS[0], load=lambda: None))
    assert loaded.load is not None
    loaded.load()


def test_shared_parameters_are_sent_once(way):
    shared = (SamplingParams(temperature=0.3),)
    first, second = (way.send(SampleRequest(id=number, source=dense(), params=shared)).params for number in range(2))
    assert first is second
    assert first == shared
    assert way.defined == 1


def test_more_parameters_than_are_kept_stay_the_right_ones(way):
    every = [(SamplingParams(top_k=number, is_plain=False),) for number in range(3000)]
    for params in (*every, *every[-10:], *every[:10]):
        assert way.send(SampleRequest(id=1, source=dense(), params=params)).params == params
        way.settle()
    assert len(way.reader.known._params) <= 1024


def test_parameters_with_lists_are_not_kept(way):
    way.send(SampleRequest(id=1, source=dense(), params=(FULL,)))
    assert way.defined == 0


def test_rows_that_lie_in_the_arena_already_are_not_copied(way):
    numbers = way.arena.lease(20)
    numbers[:] = np.arange(5, dtype=np.float32).tobytes()
    source = DenseRows(dtype=Dtype.F32, rows=1, vocab_size=5, data=numbers)
    arrived = way.send(SampleRequest(id=1, source=source, params=(SamplingParams(),)))
    assert way.arena.blocks == 1
    assert bytes(arrived.source.data) == bytes(numbers)
    # The block is in use for as long as either side wants it.
    del arrived
    way.settle()
    assert way.arena.blocks == 1
    source = numbers = None
    gc.collect()
    assert way.arena.blocks == 0


def test_a_request_that_finds_no_room_leaves_nothing_behind(way):
    too_much = SampleRequest(id=1, source=dense(1, 1 << 18), guidance=dense(1, 1 << 20), params=(SamplingParams(),))
    with pytest.raises(OverloadedError):
        way.writer.write(too_much)
    assert way.arena.blocks == 0


def test_an_engine_that_has_ended_gives_every_block_back(way):
    way.writer.write(REQUESTS[1])
    way.writer.hold(way.arena.take(10))
    assert way.arena.blocks == 3
    way.writer.forget()
    assert way.arena.blocks == 0


RESULTS = [
    SampleResult(samples=np.array([3, -1], np.int32), row_errors=(), timing=Timing(0.5, 0.25, 7)),
    SampleResult(
        samples=np.arange(4, dtype=np.int32),
        row_errors=(RowError(row=1, reason=RowErrorReason.NAN, message="not a number"),),
        timing=Timing(0.5, 0.25, 7),
        logprobs=(
            LogprobValues(
                kind=LogprobKind.SCALED,
                samples=np.ones(4, np.float32),
                top_ids=np.arange(2, dtype=np.int32),
                top=np.zeros(2, np.float32),
                named=None,
            ),
        ),
        ranks=np.arange(4, dtype=np.int32),
        entropies=((LogprobKind.RAW, np.ones(2, np.float32)),),
        kept_count=np.ones(2, np.int32),
        kept_mass=np.ones(2, np.float32),
        adaptive_weighted_sum=np.ones(4),
        adaptive_total_weight=np.ones(4),
    ),
    VerifyResult(samples=(1, 2), path=(0,), row_errors=(), timing=Timing(0.0, 0.1, 3)),
]


@pytest.mark.parametrize("result", RESULTS, ids=["samples", "everything", "verdict"])
def test_a_result_arrives_as_it_was_sent(result):
    assert plain(read_result(loads(dumps(write_result(result))))) == plain(result)


ERRORS = [
    InvalidRequestError("tensor.data", "is missing"),
    OverloadedError("the queue is full", reason="queue_rows", retry_after_s=0.25),
    UnavailableError("it drains", reason="DEVICE_STALLED", retry_after_s=None),
    DeadlineError("too late"),
    errors.InternalError(),
    errors.ReplyTooLargeError(5, 3),
    errors.FullError("full"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda own: type(own).__name__)
def test_an_error_arrives_as_it_was_raised(error):
    arrived = load_error(loads(dumps(dump_error(error))))
    assert type(arrived) is type(error)
    assert (arrived.message, arrived.code, arrived.reason) == (error.message, error.code, error.reason)
    assert vars(arrived) == vars(error)


@pytest.mark.parametrize("foreign", [os.system, dataclasses.dataclass, Arena, eval], ids=lambda own: own.__name__)
def test_what_is_no_part_of_a_message_is_not_understood(foreign):
    with pytest.raises(pickle.UnpicklingError, match="no part of a message"):
        loads(pickle.dumps(foreign))


def test_a_reply_is_delivered_once_or_cancelled():
    told, called = [], []
    one, gone = Reply(1, lambda *own: told.append(own)), Reply(2, lambda *own: told.append(own))
    for reply in (one, gone):
        reply.add_done_callback(called.append)
        assert not reply.done()
    one.set_result("drawn")
    one.cancel()
    gone.cancel()
    gone.cancel()
    assert told == [(1, "drawn", None)]
    assert called == [gone]
    assert (one.cancelled(), gone.cancelled(), one.done(), gone.done()) == (False, True, True, True)
    failed = Reply(3, lambda *own: told.append(own))
    error = ValueError("why")
    failed.set_exception(error)
    assert told[-1] == (3, None, error)
