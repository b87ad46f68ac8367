"""What every call goes through, whoever answers it: reading, counting, and statuses."""

from __future__ import annotations

import asyncio
import gc
import weakref
from types import SimpleNamespace

import grpc.aio
import pytest

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.core.errors import Code, NotFoundError
from samplerd_server.metrics.metrics import Metrics
from samplerd_server.transport.rpc.binding import bind
from samplerd_server.transport.rpc.contract import SAMPLER
from samplerd_server.transport.rpc.descriptor import rpcs_of
from samplerd_server.transport.rpc.observer import RpcObserver
from samplerd_server.transport.rpc.reply_bytes import COPIES, LEAST_BYTES, ReplyBytes

SERVICE = "samplerd.v1.SamplerService"


class AbortedError(Exception):
    pass


class Context:
    """The transport's side of a call, which has half a second left."""

    is_gone = False

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.waiting = []

    def time_remaining(self) -> float:
        return 0.5

    def add_done_callback(self, callback) -> None:
        self.waiting.append(callback)

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    async def write(self, message: bytes) -> None:
        if self.is_gone:
            raise grpc.aio.InternalError("the client has gone")
        self.written.append(message)

    async def abort(self, code, message, trailers) -> None:
        self.status = (code.name, message)
        raise AbortedError


class Owner:
    """Answers three RPCs, and fails them as it is told to."""

    failure: BaseException | None = None
    asked = 0
    has_ended = False
    name: str | None = None

    @SAMPLER.unary("GetDistribution", pb.GetDistributionRequest, pb.GetDistributionResponse)
    async def get(self, request, call):
        self.call = call
        if self.failure is not None:
            raise self.failure
        return pb.GetDistributionResponse(distribution=pb.Distribution(name=self.name or request.name))

    @SAMPLER.bidi_stream("SampleStream", pb.SampleRequest, pb.SampleResponse)
    async def stream(self, call):
        self.call = call
        if self.failure is not None:
            raise self.failure

    @SAMPLER.server_stream("SampleDistribution", pb.SampleRequest, pb.SampleResponse)
    async def replies(self, data, call):
        self.call = call
        try:
            for self.asked in range(1, 4):
                yield data * self.asked
            if self.failure is not None:
                raise self.failure
        finally:
            self.has_ended = True


class Bound:
    """An owner whose handlers are called as a transport calls them."""

    def __init__(self) -> None:
        self.metrics = Metrics(rpc.labels for rpc in rpcs_of(Owner))
        self.held = ReplyBytes(1 << 20, self.metrics.shed)
        self.observer = RpcObserver(self.metrics, self.held)
        self.owner = Owner()
        self.context = Context()
        self.generic = bind([self.owner], self.observer)

    def handler(self, rpc: str):
        return self.generic[SERVICE].service(SimpleNamespace(method=f"/{SERVICE}/{rpc}", invocation_metadata=()))

    async def get(self, data: bytes) -> bytes:
        return await self.handler("GetDistribution").unary_unary(data, self.context)

    async def stream(self) -> None:
        await self.handler("SampleStream").stream_stream(None, self.context)

    async def replies(self, data: bytes) -> None:
        await self.handler("SampleDistribution").unary_stream(data, self.context)

    def handled(self) -> dict[str, float]:
        """Calls that ended, by code."""
        (family,) = [own for own in self.metrics.collect() if own.name == "grpc_server_handled"]
        return {sample.labels["grpc_code"]: sample.value for sample in family.samples if sample.value}


async def test_a_message_in_and_a_message_out():
    bound = Bound()
    reply = await bound.get(pb.GetDistributionRequest(name="words").SerializeToString())
    assert pb.GetDistributionResponse.FromString(reply).distribution.name == "words"
    call = bound.owner.call
    assert (call.rpc, call.connection, call.context) == ("GetDistribution", "ipv4:127.0.0.1:1", bound.context)
    assert call.deadline == call.arrival + 0.5
    assert bound.handled() == {"OK": 1}
    assert (bound.observer.begun, bound.observer.in_flight) == (1, 0)


async def test_a_call_without_a_deadline_never_expires():
    bound = Bound()
    bound.context.time_remaining = lambda: None
    await bound.stream()
    assert bound.owner.call.deadline == float("inf")
    assert bound.handled() == {"OK": 1}


async def test_bytes_that_are_no_message_are_refused_before_the_handler_runs():
    bound = Bound()
    with pytest.raises(AbortedError):
        await bound.get(b"\xff")
    assert bound.context.status == ("INVALID_ARGUMENT", "request: not a GetDistributionRequest")
    assert not hasattr(bound.owner, "call")
    assert bound.handled() == {"InvalidArgument": 1}


@pytest.mark.parametrize("rpc", ["get", "stream"])
@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (NotFoundError("no such thing"), ("NOT_FOUND", "no such thing"), "NotFound"),
        (KeyError("secret"), ("INTERNAL", "internal error; the server's log has the cause"), "Internal"),
    ],
)
async def test_errors_become_statuses_and_are_counted(rpc, failure, status, code):
    bound = Bound()
    bound.owner.failure = failure
    with pytest.raises(AbortedError):
        await (bound.get(b"") if rpc == "get" else bound.stream())
    assert bound.context.status == status
    assert bound.handled() == {code: 1}
    assert bound.observer.in_flight == 0


@pytest.mark.parametrize("rpc", ["get", "stream"])
async def test_a_caller_that_has_its_status_finds_its_call_counted(rpc, monkeypatch):
    bound, seen = Bound(), []
    bound.owner.failure = NotFoundError("no such thing")
    whole = bound.context.abort

    async def abort(*args) -> None:
        seen.append((bound.handled(), bound.observer.in_flight))
        await whole(*args)

    monkeypatch.setattr(bound.context, "abort", abort)
    with pytest.raises(AbortedError):
        await (bound.get(b"") if rpc == "get" else bound.stream())
    assert seen == [({"NotFound": 1}, 0)]


async def test_a_cancellation_passes_and_is_counted():
    bound = Bound()
    bound.owner.failure = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        await bound.get(b"")
    assert not hasattr(bound.context, "status")
    assert bound.handled() == {"Cancelled": 1}


async def test_many_messages_answer_one():
    bound = Bound()
    await bound.replies(b"a")
    assert bound.context.written == [b"a", b"aa", b"aaa"]
    assert bound.owner.call.deadline == bound.owner.call.arrival + 0.5
    assert bound.handled() == {"OK": 1}
    (requests,) = [own for own in bound.metrics.collect() if own.name == "samplerd_requests"]
    assert [own.value for own in requests.samples if own.labels["rpc"] == "SampleDistribution" and own.value] == [1]


async def test_a_failure_after_some_replies_is_the_status():
    bound = Bound()
    bound.owner.failure = NotFoundError("no such thing")
    with pytest.raises(AbortedError):
        await bound.replies(b"a")
    assert (len(bound.context.written), bound.context.status) == (3, ("NOT_FOUND", "no such thing"))
    assert bound.handled() == {"NotFound": 1}


async def test_no_reply_is_made_for_a_client_that_has_gone():
    bound = Bound()
    bound.context.is_gone = True
    with pytest.raises(asyncio.CancelledError):
        await bound.replies(b"a")
    assert (bound.owner.asked, bound.owner.has_ended) == (1, True)
    assert bound.handled() == {"Cancelled": 1}
    assert bound.observer.in_flight == 0


async def test_whoever_waits_for_the_last_call_is_told_by_it():
    observer = Bound().observer
    await observer.wait_idle()
    for _ in range(2):
        observer.begin("GetDistribution")
        observer.begin("GetDistribution")
        waiting = [asyncio.create_task(observer.wait_idle()) for _ in range(2)]
        observer.end("GetDistribution", Code.OK, 0.1)
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        observer.end("GetDistribution", Code.OK, 0.1)
        await asyncio.gather(*waiting)


async def test_an_object_without_rpcs_adds_none():
    assert bind([object()], Bound().observer) == {}


async def test_a_large_reply_counts_until_the_transport_is_done_with_its_call():
    bound = Bound()
    bound.owner.name = "a" * (LEAST_BYTES - 100)
    await bound.get(b"")
    assert (bound.held.bytes, bound.context.waiting) == (0, [])
    bound.owner.name = "a" * LEAST_BYTES
    size = COPIES * len(await bound.get(b""))
    assert bound.held.bytes == size
    bound.owner.name = "a" * (1 << 18)
    with pytest.raises(AbortedError):
        await bound.get(b"")
    assert bound.context.status == (
        "RESOURCE_EXHAUSTED",
        f"{size} bytes of your replies wait to be read, {1 << 18} are the most",
    )
    assert bound.metrics.shed.value("reply_bytes") == 1
    assert bound.held.bytes == size
    (over,) = bound.context.waiting
    over(bound.context)
    assert bound.held.bytes == 0
    assert bound.observer.in_flight == 0


class Rows:
    """What a handler has at hand when it fails."""


class Failing:
    """Answers three RPCs with an error, while it has rows."""

    def __init__(self, error: Exception) -> None:
        self.error, self.rows = error, []

    def fail(self):
        rows = Rows()
        self.rows.append(weakref.ref(rows))
        try:
            int("no number")
        except ValueError as cause:
            raise self.error from cause

    @SAMPLER.unary("GetDistribution", pb.GetDistributionRequest, pb.GetDistributionResponse)
    async def get(self, request, call):
        return self.fail()

    @SAMPLER.server_stream("SampleDistribution", pb.SampleRequest, pb.SampleResponse)
    async def draw(self, data, call):
        self.fail()
        yield b""

    @SAMPLER.bidi_stream("SampleStream", pb.SampleRequest, pb.SampleResponse)
    async def stream(self, call):
        self.fail()


class Keeps(Context):
    """Keeps what it raises with the call, in a circle, as grpcio 1.85.1 does (`RPCState.abort_exception`)."""

    async def abort(self, code, message, trailers) -> None:
        self.raised = AbortedError()
        self.raised.call = self
        raise self.raised


@pytest.mark.parametrize("error", [NotFoundError, RuntimeError])
@pytest.mark.parametrize("rpc", ["GetDistribution", "SampleDistribution", "SampleStream"])
async def test_a_failed_call_gives_its_rows_back_before_the_garbage_collector_runs(rpc, error, monkeypatch):
    monkeypatch.setattr("samplerd_server.transport.rpc.observer._LOG.error", lambda *_, **__: None)  # pytest keeps it
    owner, context, metrics = Failing(error("nothing")), Keeps(), Metrics(own.labels for own in rpcs_of(Owner))
    details = SimpleNamespace(method=f"/{SERVICE}/{rpc}", invocation_metadata=())
    found = bind([owner], RpcObserver(metrics, ReplyBytes(1 << 20, metrics.shed)))[SERVICE].service(details)
    [function] = filter(None, (found.unary_unary, found.unary_stream, found.stream_stream))
    gc.disable()
    try:
        task = asyncio.ensure_future(function(b"", context))
        await asyncio.wait([task])
        [rows] = owner.rows
        assert context.raised.__traceback__ is not None, "it no longer holds any frame: this test shows nothing"
        assert rows() is None
    finally:
        gc.enable()
