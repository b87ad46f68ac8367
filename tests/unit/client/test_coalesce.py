"""How calls are gathered: a coalescer on a real event loop, before a server that the test holds in its hand."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client import (
    Coalescing,
    ConnectionLostError,
    DeadlineError,
    FieldViolation,
    InternalError,
    InvalidRequestError,
    MessageTooLargeError,
    OverloadedError,
    RowError,
    RowErrorReason,
    RowsFailedError,
    SampleResult,
)
from samplerd_client import coalesce as coalesce_module
from samplerd_client.coalesce import Coalescer
from samplerd_client.request import build
from tests.support.fake_sampler import reply_to

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from samplerd_client.errors import SamplerdError

TURNS = 20
"""Of the event loop: more than any step here takes."""


class Server:
    """Takes requests; while it is held it answers none."""

    def __init__(self) -> None:
        self.requests: list[pb.SampleRequest] = []
        self.left_s: list[float | None] = []
        self.cancelled = 0
        self.script: list[Callable[[pb.SampleRequest], Awaitable[pb.SampleResponse]] | SamplerdError] = []
        self._gate = asyncio.Event()
        self._gate.set()

    def hold(self) -> None:
        self._gate.clear()

    def release(self) -> None:
        self._gate.set()

    @property
    def sizes(self) -> list[int]:
        """Rows of the requests so far."""
        return [request.tensor.rows for request in self.requests]

    async def send(self, body: bytes, left_s: float | None) -> pb.SampleResponse:
        request = pb.SampleRequest.FromString(body)
        self.requests.append(request)
        self.left_s.append(left_s)
        step = self.script.pop(0) if self.script else None
        try:
            await self._gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if isinstance(step, Exception):
            raise step
        return reply_to(request) if step is None else await step(request)


@pytest.fixture
async def server() -> Server:
    return Server()


def coalescer_of(server: Server, *, lonely: bool = False, **settings: int) -> Coalescer:
    """Make one that has just had company, so that a call waits for the end of its turn."""
    coalescer = Coalescer(server.send, Coalescing(**settings))
    coalescer._was_alone = lonely
    return coalescer


def row(at: int, width: int = 8) -> np.ndarray:
    """A row whose argmax is known."""
    values = np.zeros(width, dtype=np.float32)
    values[at % width] = 5.0
    return values


async def ask(coalescer: Coalescer, at: int, timeout_s: float | None = None, **options: Any) -> int | None:
    """Ask for the argmax of row(at); None when the coalescer wants the call to be made alone."""
    options.setdefault("seed", at)
    prepared = build(row(at), options)  # type: ignore[arg-type]
    key = coalescer.key(prepared)
    assert key is not None
    result = await coalescer.sample(key, prepared, timeout_s)
    if result is None:
        return None
    assert isinstance(result, SampleResult)
    assert result.samples.shape == (1, prepared.template.num_samples)
    if options["seed"] is not None:
        assert result.seed == options["seed"]
    return int(result.samples[0, 0])


def start(coalescer: Coalescer, *numbers: int, **options: Any) -> list[asyncio.Task[int | None]]:
    return [asyncio.create_task(ask(coalescer, at, **options)) for at in numbers]


async def turns(count: int = TURNS) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def outcomes(tasks: list[asyncio.Task[int | None]]) -> list[Any]:
    async with asyncio.timeout(20.0):
        return await asyncio.gather(*tasks, return_exceptions=True)


def idle(coalescer: Coalescer) -> bool:
    """Whether nothing is left of the calls."""
    return not coalescer._groups and coalescer._places._value == coalesce_module.Coalescing().max_calls


# ----------------------------------------------------------------------------------------------------- gathering


async def test_the_calls_of_one_turn_share_a_request(server: Server) -> None:
    coalescer = coalescer_of(server)
    assert await outcomes(start(coalescer, *range(50))) == [at % 8 for at in range(50)]
    assert server.sizes == [50]
    assert list(server.requests[0].row_seeds) == list(range(50))
    assert idle(coalescer)


async def test_a_lone_call_goes_at_once_and_as_ever(server: Server) -> None:
    coalescer = coalescer_of(server, lonely=True)
    server.hold()
    task = asyncio.create_task(ask(coalescer, 3, seed=None))
    await asyncio.sleep(0)
    (request,) = server.requests
    assert not request.row_seeds
    assert not request.HasField("seed"), "the server draws it, as for a call that is made alone"
    others = start(coalescer, 4, 5, 6)
    await turns()
    assert server.sizes == [1, 3], "what comes meanwhile gathers"
    server.release()
    assert await outcomes([task, *others]) == [3, 4, 5, 6]
    assert idle(coalescer)
    await ask(coalescer, 1)
    assert server.sizes == [1, 3, 1]


async def test_while_requests_are_under_way_the_next_one_gathers(server: Server) -> None:
    coalescer = coalescer_of(server)
    server.hold()
    tasks = []
    for at in range(10):
        tasks += start(coalescer, at)
        await turns()
    assert server.sizes == [1, 1]
    assert coalescer.waiting == 8
    server.release()
    assert await outcomes(tasks) == [at % 8 for at in range(10)]
    assert server.sizes == [1, 1, 8]
    assert idle(coalescer)


async def test_few_calls_wait_for_the_many_under_way(server: Server) -> None:
    coalescer = coalescer_of(server)
    server.hold()
    tasks = start(coalescer, *range(20))
    await turns()
    tasks += start(coalescer, *range(4))
    await turns()
    assert server.sizes == [20]
    tasks += start(coalescer, 4)
    await turns()
    assert server.sizes == [20, 5], "a quarter is worth a request"
    server.release()
    await outcomes(tasks)


async def test_half_of_the_callers_who_are_answered_together_go_ahead(server: Server) -> None:
    coalescer = coalescer_of(server)

    async def ask_twice(at: int) -> list[int | None]:
        return [await ask(coalescer, at), await ask(coalescer, at + 1)]

    answers = await asyncio.gather(*(ask_twice(at) for at in range(64)))
    assert answers == [[at % 8, (at + 1) % 8] for at in range(64)]
    assert server.sizes == [64, 32, 32]
    assert idle(coalescer)


async def test_callers_who_are_few_ask_again_together(server: Server) -> None:
    coalescer = coalescer_of(server)

    async def ask_twice(at: int) -> None:
        await ask(coalescer, at)
        await ask(coalescer, at)

    await asyncio.gather(*(ask_twice(at) for at in range(15)))
    assert server.sizes == [15, 15]


async def test_a_full_request_does_not_wait(server: Server) -> None:
    coalescer = coalescer_of(server, max_rows=10)
    server.hold()
    tasks = start(coalescer, *range(57))
    await turns()
    assert server.sizes == [10] * 5
    assert coalescer.waiting == 7
    server.release()
    assert await outcomes(tasks) == [at % 8 for at in range(57)]
    assert server.sizes == [*[10] * 5, 7]


async def test_what_is_full_is_told_by_bytes_too(server: Server) -> None:
    """A row here has 32 bytes, and its parameters two."""
    coalescer = coalescer_of(server, max_bytes=10 * 34, max_in_flight=1)
    server.hold()
    tasks = start(coalescer, *range(25))
    gone, late = start(coalescer, *range(3)), start(coalescer, 0, timeout_s=0.01)
    await turns()
    for task in gone:
        task.cancel()
    await outcomes([*gone, *late])
    tasks += start(coalescer, *range(4))
    await turns()
    assert server.sizes == [10, 10], "nine are not full, though thirteen have waited"
    tasks += start(coalescer, 4)
    await turns()
    assert server.sizes == [10, 10, 10]
    server.release()
    assert await outcomes(tasks) == [at % 8 for at in (*range(25), *range(5))]
    assert idle(coalescer)


async def test_a_call_cancelled_in_its_turn_is_not_sent(server: Server) -> None:
    coalescer = coalescer_of(server)
    tasks = start(coalescer, *range(3))
    await turns(1)
    tasks[0].cancel()
    await outcomes(tasks)
    assert server.sizes == [2]
    tasks = start(coalescer, *range(3))
    await turns(1)
    for task in tasks:
        task.cancel()
    await turns(1)
    assert not [own for own in asyncio.all_tasks() if own.get_name() == "samplerd-coalesced"]
    await outcomes(tasks)
    assert idle(coalescer)


async def test_only_like_calls_share(server: Server) -> None:
    coalescer = coalescer_of(server)
    tasks = start(coalescer, 0, 1, 2) + start(coalescer, 3, 4, rank=True) + start(coalescer, 5, num_samples=2)
    tasks += start(coalescer, 6, temperature=0.0) + start(coalescer, 7, seed=None)
    assert await outcomes(tasks) == list(range(8))
    assert sorted(server.sizes) == [1, 2, 5]
    assert idle(coalescer)


@given(
    calls=st.lists(
        st.tuples(st.sampled_from([1, 2, 30_000]), st.integers(0, 40), st.integers(0, 3)), min_size=1, max_size=60
    ),
    max_rows=st.integers(2, 20),
    max_bytes=st.integers(400, 2000),
)
def test_no_request_is_past_the_limits(calls: list[tuple[int, int, int]], max_rows: int, max_bytes: int) -> None:
    async def run() -> None:
        server = Server()
        coalescer = coalescer_of(server, max_rows=max_rows, max_bytes=max_bytes)
        tasks = []
        for at, (num_samples, tokens, pause) in enumerate(calls):
            tasks += start(coalescer, at, num_samples=num_samples, history=[1] * tokens)
            await turns(pause)
        assert await outcomes(tasks) == [at % 8 for at in range(len(calls))]
        for request in server.requests:
            assert request.tensor.rows <= max_rows
            assert request.tensor.rows * request.num_samples <= coalesce_module._MAX_SAMPLES
            assert sum(len(own.SerializeToString()) for own in request.row_params) + len(request.tensor.data) <= (
                max_bytes
            )
        assert idle(coalescer)

    asyncio.run(run())


async def test_what_is_too_large_for_company(server: Server) -> None:
    coalescer = coalescer_of(server, max_bytes=200)
    assert coalescer.key(build(np.zeros(12, np.float32), {})) is not None
    assert coalescer.key(build(np.zeros(13, np.float32), {})) is None
    assert coalescer.key(build(np.zeros(1, np.float32), {"history": [1] * 60})) is None
    assert coalescer.key(build(np.zeros(1, np.float32), {"num_samples": 40_000})) is None
    assert coalescer.key(build(np.zeros((2, 2), np.float32), {})) is None


async def test_the_row_is_that_of_the_call(server: Server) -> None:
    """A caller may use its array again for its next call, once this one waits."""
    coalescer = coalescer_of(server)
    values = row(3)
    prepared = build(values, {})
    key = coalescer.key(prepared)
    assert key is not None
    task = asyncio.create_task(coalescer.sample(key, prepared, None))
    others = start(coalescer, 1)
    await asyncio.sleep(0)
    values[:] = row(5)
    result = await task
    assert result is not None
    assert result.samples.tolist() == [[3]]
    await outcomes(others)


@pytest.mark.parametrize("name", ["max_in_flight", "max_rows", "max_bytes", "max_calls"])
def test_limits_are_positive(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Coalescing(**{name: 0})


# ------------------------------------------------------------------------------- callers that go, and are too late


async def test_a_call_that_is_cancelled_before_it_is_sent(server: Server) -> None:
    coalescer = coalescer_of(server, max_in_flight=1)
    server.hold()
    tasks = start(coalescer, 0)
    await turns()
    tasks += start(coalescer, *range(1, 6))
    await turns()
    tasks[2].cancel()
    tasks[4].cancel()
    await turns()
    assert coalescer.waiting == 3
    server.release()
    done = await outcomes(tasks)
    assert [own if isinstance(own, int) else type(own) for own in done] == [
        *(0, 1, asyncio.CancelledError, 3, asyncio.CancelledError, 5)
    ]
    assert server.sizes == [1, 3], "its row was not sent"
    assert idle(coalescer)


async def test_a_call_that_is_cancelled_under_way(server: Server) -> None:
    coalescer = coalescer_of(server)
    server.hold()
    tasks = start(coalescer, *range(4))
    await turns()
    tasks[1].cancel()
    await turns()
    assert server.cancelled == 0, "others wait for it"
    server.release()
    done = await outcomes(tasks)
    assert [own for own in done if isinstance(own, int)] == [0, 2, 3]
    assert idle(coalescer)


@pytest.mark.parametrize("pause", range(5))
async def test_a_request_that_nobody_waits_for(server: Server, pause: int) -> None:
    coalescer = coalescer_of(server)
    server.hold()
    tasks = start(coalescer, *range(4))
    await turns(pause)
    for task in tasks:
        task.cancel()
    assert all(isinstance(own, asyncio.CancelledError) for own in await outcomes(tasks))
    await turns()
    assert server.cancelled == len(server.requests) <= 1
    assert idle(coalescer)
    server.release()
    assert await ask(coalescer, 5) == 5


async def test_deadlines(server: Server) -> None:
    coalescer = coalescer_of(server, max_in_flight=1)
    server.hold()
    early, late = start(coalescer, 0, timeout_s=0.05) + start(coalescer, 1, timeout_s=60.0)
    await turns()
    waiting = start(coalescer, 2, timeout_s=0.05) + start(coalescer, 3)
    assert isinstance((await outcomes([early]))[0], DeadlineError)
    assert isinstance((await outcomes(waiting[:1]))[0], DeadlineError)
    assert server.sizes == [2]
    assert server.left_s[0] is not None
    assert 50.0 < server.left_s[0] <= 60.0, "the request has the time of the most patient one"
    assert coalescer.waiting == 1
    server.release()
    assert await outcomes([late, waiting[1]]) == [1, 3]
    assert server.sizes == [2, 1], "the row that was too late was not sent"
    assert server.left_s[1] is None
    assert idle(coalescer)
    await coalescer.aclose()


async def test_a_request_that_everybody_is_too_late_for_is_cancelled(server: Server) -> None:
    coalescer = coalescer_of(server)
    server.hold()
    done = await outcomes(start(coalescer, 0, 1, timeout_s=0.02) + start(coalescer, 2, timeout_s=0.03))
    assert all(isinstance(own, DeadlineError) for own in done)
    await turns()
    assert server.cancelled == 1
    assert idle(coalescer)


async def test_calls_that_find_no_place_wait_for_one(server: Server) -> None:
    coalescer = coalescer_of(server, max_calls=3, max_in_flight=1)
    server.hold()
    tasks = start(coalescer, *range(8))
    late = start(coalescer, 8, timeout_s=0.02)
    gone = start(coalescer, 9)
    await turns()
    assert server.sizes == [3]
    assert coalescer.waiting == 0
    assert isinstance((await outcomes(late))[0], DeadlineError)
    gone[0].cancel()
    server.release()
    assert await outcomes(tasks) == list(range(8))
    assert max(server.sizes) <= 3
    assert sum(server.sizes) == 8
    assert coalescer._places._value == 3


async def test_closing_with_calls_that_wait(server: Server) -> None:
    coalescer = coalescer_of(server, max_in_flight=1, max_calls=5)
    server.hold()
    server.script = [ConnectionLostError("the channel is closed")]
    tasks = start(coalescer, *range(3))
    await turns()
    tasks += start(coalescer, *range(4))
    await turns()
    closing = asyncio.create_task(coalescer.aclose())
    await turns()
    server.release()
    await closing
    done = await outcomes(tasks)
    assert len(done) == 7
    assert all(isinstance(own, ConnectionLostError) for own in done)
    assert server.sizes == [3], "nothing is sent once it is closed"
    with pytest.raises(ConnectionLostError):
        await ask(coalescer, 1)


async def test_a_loop_that_ends_leaves_nobody_waiting(server: Server) -> None:
    """asyncio.run cancels the tasks that are left, ours among them, some before they have begun."""
    coalescer = coalescer_of(server)
    server.hold()
    tasks = start(coalescer, *range(3))
    for pause in (2, 5):
        await turns(pause)
        for own in asyncio.all_tasks():
            if own.get_name() == "samplerd-coalesced":
                own.cancel()
        done = await outcomes(tasks)
        assert all(isinstance(error, ConnectionLostError) for error in done)
        tasks = start(coalescer, *range(3))
    await turns()
    server.release()
    assert await outcomes(tasks) == [0, 1, 2]


# --------------------------------------------------------------------------------------------------------- errors


def invalid(field: str) -> InvalidRequestError:
    return InvalidRequestError(f"{field}: no", violations=(FieldViolation(field=field, description="no"),))


async def test_one_bad_call_does_not_fail_the_others(server: Server) -> None:
    coalescer = coalescer_of(server)
    server.script = [invalid("row_params[1].top_p")]
    done = await outcomes(start(coalescer, *range(4)))
    assert [own for own in done if isinstance(own, int)] == [0, 2, 3]
    assert isinstance(done[1], InvalidRequestError)
    assert done[1].violations[0].field == "params.top_p"
    assert server.sizes == [4, 3]
    assert list(server.requests[1].row_seeds) == [0, 2, 3], "in order, with their seeds"


async def test_calls_in_bad_company_end_up_alone(server: Server) -> None:
    coalescer = coalescer_of(server)
    server.script = [invalid(f"row_params[{at}].top_p") for at in (5, 4, 3, 2)]
    done = await outcomes(start(coalescer, *range(6)))
    assert server.sizes == [6, 5, 4]
    assert done[:3] == [None] * 3
    assert all(isinstance(own, InvalidRequestError) for own in done[3:])


async def test_with_nobody_to_blame_each_is_asked_alone(server: Server) -> None:
    coalescer = coalescer_of(server)
    for error in (InternalError("a bug"), invalid("anything")):
        server.script = [error]
        assert await outcomes(start(coalescer, *range(4))) == [None] * 4
    assert await outcomes(start(coalescer, *range(4))) == list(range(4))


async def test_a_reply_that_does_not_fit(server: Server) -> None:
    async def short(request: pb.SampleRequest) -> pb.SampleResponse:
        reply = reply_to(request)
        reply.raw_samples = reply.raw_samples[4:]
        return reply

    coalescer = coalescer_of(server)
    server.script = [short]
    assert await outcomes(start(coalescer, *range(4))) == [None] * 4


async def test_what_befalls_all_is_told_to_all(server: Server) -> None:
    coalescer = coalescer_of(server)
    server.script = [OverloadedError("full", retry_after_s=0.5)]
    done = await outcomes(start(coalescer, *range(4)))
    assert [(type(own), own.retry_after_s) for own in done] == [(OverloadedError, 0.5)] * 4
    assert len({id(own) for own in done}) == 4


async def test_more_failed_rows_than_the_server_names(server: Server) -> None:
    coalescer = coalescer_of(server)
    named = tuple(RowError(row=at, reason=RowErrorReason.NAN, message="a NaN") for at in range(16))
    server.script = [RowsFailedError("all", row_errors=named), RowsFailedError("all", row_errors=named[:4])]
    done = await outcomes(start(coalescer, *range(20)))
    assert all(isinstance(own, RowsFailedError) for own in done)
    assert server.sizes == [20, 4]


async def test_requests_that_are_too_large_become_smaller(server: Server) -> None:
    coalescer = coalescer_of(server)
    server.script = [MessageTooLargeError("larger than max")]
    assert await outcomes(start(coalescer, *range(20))) == [None] * 20
    await outcomes(start(coalescer, *range(20)))
    assert max(server.sizes[1:]) <= 10
    server.script = [invalid("tensor.rows")] * 9
    await outcomes(start(coalescer, *range(20)))
    assert coalescer._max_rows <= 5
    while coalescer._max_rows > 1:
        server.script = [invalid("source")] * 9
        await outcomes(start(coalescer, *range(20)))
    assert coalescer.key(build(row(1), {})) is None, "then there is nothing to gather"


async def test_a_bug_is_raised_to_those_who_wait(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    coalescer = coalescer_of(server)

    def broken(calls: object) -> bytes:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(coalesce_module, "encode", broken)
        done = await outcomes(start(coalescer, *range(3)))
    assert all(isinstance(own, ZeroDivisionError) for own in done)
    assert await outcomes(start(coalescer, *range(3))) == [0, 1, 2]
