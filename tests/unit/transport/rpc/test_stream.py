"""A streaming call between a played transport and a played queue: what goes together, and in which order."""

from __future__ import annotations

import asyncio
import gc
import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from samplerd_server.core.errors import Code, InvalidRequestError, OverloadedError, UnavailableError
from samplerd_server.metrics.metrics import Metrics
from samplerd_server.metrics.rpc_labels import RpcLabels
from samplerd_server.transport.codec.joint_requests import JointRequest
from samplerd_server.transport.rpc.arrival import ARRIVED
from samplerd_server.transport.rpc.reply_bytes import LEAST_BYTES, ReplyBytes
from samplerd_server.transport.rpc.stream import Stream
from samplerd_server.transport.rpc.stream_messages import Encoded, encoded_now

if TYPE_CHECKING:
    from collections.abc import Iterator

WAIT_S = 10.0
BUG = 7
"""A request whose reply cannot be encoded whole."""
RPC = "SampleStream"


class Transport:
    """A context of grpcio: one message a read, one a write. What the test wants to hold back waits for `gate`."""

    def __init__(self) -> None:
        self.arrived: asyncio.Queue[Any] = asyncio.Queue()
        self.written: list[list[bytes]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.reads = 0

    async def read(self) -> Any:
        message = await self.arrived.get()
        self.reads += 1
        return message

    async def write(self, message: bytes) -> None:
        await self._write([message])

    async def _write(self, messages: list[bytes]) -> None:
        self.written.append(messages)
        await self.gate.wait()

    def send(self, *messages: Any) -> None:
        for message in messages:
            self.arrived.put_nowait(message)

    def close(self) -> None:
        self.send(grpc.aio.EOF)


class Together(Transport):
    """A context of Envoy, which reads and writes many messages in one go."""

    async def read_many(self, most: int) -> list[bytes]:
        messages = [await self.read()]
        while len(messages) < most and not self.arrived.empty():
            messages.append(await self.read())
        return [message for message in messages if isinstance(message, bytes)]

    async def write_many(self, messages: list[bytes]) -> None:
        await self._write(messages)


class Numbered:
    """A request."""

    def __init__(self, number: int) -> None:
        self.id = number


class Result:
    """A result whose messages are encoded when they are written."""


class Codec:
    """A request is its number, and a reply says it, or what the result lists."""

    def decode(self, data: bytes) -> Any:
        if data == b"bad":
            raise InvalidRequestError("id", "is bad")
        return Numbered(int(data.lstrip(b"0") or b"0"))

    def identify(self, data: bytes) -> int:
        return 99

    def encode(self, request: Any, result: Any) -> Encoded:
        if result == "bug":
            raise RuntimeError("the secret cause")
        if isinstance(result, Result):
            return Encoded(self.encode_later(request.id, result), 3 * LEAST_BYTES, LEAST_BYTES)
        if isinstance(result, bytes):
            return Encoded((b"%d" % request.id,), len(result), 0)
        return encoded_now(*(result if isinstance(result, list) else [b"%d" % request.id]))

    def encode_later(self, number: int, result: Any) -> Iterator[bytes]:
        assert result is not None
        yield b"%d" % number + bytes(LEAST_BYTES)
        if number == BUG:
            raise RuntimeError("the secret cause")
        yield b"%d" % number + bytes(LEAST_BYTES)

    def encode_error(self, request_id: int, error: Any, call_id: str) -> bytes:
        return b"%d failed: %s" % (request_id, error.reason.encode())


class Bench:
    """A stream, and the queue behind it: `replies` are those that nobody has resolved."""

    def __init__(self, transport: Transport, limit: int, max_bytes: int = 1 << 30, joins: Any = None) -> None:
        self.transport = transport
        self.replies: dict[int, Any] = {}
        self.metrics = Metrics([RpcLabels("samplerd.v1.SamplerService", RPC, "bidi_stream")])
        self.held = ReplyBytes(max_bytes, self.metrics.shed)
        self.refused: list[str] = []
        self.submitted: list[int] = []
        call = SimpleNamespace(rpc=RPC, context=transport, connection="a", deadline=9.0, request_id="id", arrival=0.0)
        self.stream: Stream[Any, Any] = Stream(
            call,
            messages=Codec(),
            submit=self.submit,
            metrics=self.metrics,
            reply_bytes=self.held,
            limit=limit,
            log_refusal=lambda rpc, error, context: self.refused.append(error.reason),
            joins=joins,
        )
        self.running = asyncio.create_task(self.stream.run())

    def submit(self, reply: Any, request: Any, arrival: float, deadline: float, connection: str) -> None:
        assert (deadline, connection) == (9.0, "a")
        self.replies[request.id] = reply
        self.submitted.append(request.id)

    def draw(self, *numbers: int, result: Any = None) -> None:
        """Resolve some replies within one callback, as a batch does."""
        for number in numbers:
            self.replies.pop(number).set_result(result)

    def answered(self, code: str) -> int:
        return int(self.metrics.requests.value(RPC, code))

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():  # noqa: ASYNC110  # turns of the loop, not time
                await asyncio.sleep(0)

    async def end(self) -> None:
        self.transport.close()
        await asyncio.wait_for(self.running, WAIT_S)


@pytest.fixture(params=[Transport, Together])
def transport(request) -> Transport:
    return request.param()


async def test_replies_are_written_in_the_order_of_completion(transport):
    bench = Bench(transport, limit=16)
    transport.send(b"1", b"2", b"3")
    await bench.until(lambda: len(bench.replies) == 3)
    bench.draw(2)
    await bench.until(lambda: transport.written)
    bench.draw(3, 1)
    await bench.end()
    assert [message for batch in transport.written for message in batch] == [b"2", b"3", b"1"]
    assert bench.answered("OK") == 3


async def test_what_a_transport_can_take_together_is_taken_together():
    transport = Together()
    bench = Bench(transport, limit=4)
    transport.send(*[b"%d" % number for number in range(6)])
    await bench.until(lambda: len(bench.replies) == 4)
    bench.draw(0, 1, 2)
    await bench.until(lambda: transport.written)
    assert transport.written == [[b"0", b"1", b"2"]]
    await bench.until(lambda: len(bench.replies) == 3)
    bench.draw(3, 4, 5)
    await bench.end()
    assert transport.written == [[b"0", b"1", b"2"], [b"3", b"4", b"5"]]


async def test_a_long_reply_is_written_in_several_goes():
    transport = Together()
    bench = Bench(transport, limit=4)
    transport.send(b"1", b"2")
    await bench.until(lambda: len(bench.replies) == 2)
    bench.draw(1, result=[bytes(20_000)] * 5)
    bench.draw(2)
    await bench.end()
    assert [len(batch) for batch in transport.written] == [4, 1, 1]


async def test_no_more_requests_than_the_limit_are_in_flight_until_their_replies_are_written(transport):
    bench = Bench(transport, limit=2)
    transport.gate.clear()
    transport.send(b"1", b"2", b"3", b"4")
    await bench.until(lambda: len(bench.replies) == 2)
    bench.draw(1, 2)
    await bench.until(lambda: transport.written)
    for _ in range(20):
        await asyncio.sleep(0)
    assert transport.reads == 2, "a client that reads no replies is read"
    transport.gate.set()
    await bench.until(lambda: len(bench.replies) == 2)
    bench.draw(3, 4)
    await bench.end()


async def test_one_answer_lets_the_next_request_in_while_the_others_wait(transport):
    """A request that takes long holds up no more than its own place."""
    bench = Bench(transport, limit=4)
    transport.send(b"1", b"2", b"3", b"4", b"5")
    await bench.until(lambda: len(bench.replies) == 4)
    bench.draw(4)
    await bench.until(lambda: 5 in bench.replies)
    bench.draw(1, 2, 3, 5)
    await bench.end()


async def test_small_requests_that_are_read_while_replies_are_written_are_submitted_together():
    transport = Transport()
    bench = Bench(transport, limit=16)
    transport.gate.clear()
    transport.send(b"1", b"2", b"3", b"4")
    await bench.until(lambda: len(bench.replies) == 4)
    bench.draw(1, 2, 3, 4)
    await bench.until(lambda: transport.written)
    transport.send(b"5", b"6", b"7")
    await bench.until(lambda: transport.reads == 7)
    assert not bench.replies  # three replies are left to write
    transport.send(b"0" * (1 << 15) + b"8")
    await bench.until(lambda: len(bench.replies) == 4)
    assert bench.submitted[4:] == [5, 6, 7, 8]  # a large one waits for nothing, and nobody overtakes
    transport.gate.set()
    bench.draw(5, 6, 7, 8)
    await bench.end()
    assert bench.answered("OK") == 8


async def test_what_was_gathered_is_submitted_once_one_reply_is_left_or_enough_have_come():
    transport = Transport()
    bench = Bench(transport, limit=32)
    transport.gate.clear()
    transport.send(*[b"%d" % number for number in range(4)])
    await bench.until(lambda: len(bench.replies) == 4)
    bench.draw(0, 1, 2, 3)
    await bench.until(lambda: transport.written)
    transport.send(*[b"%d" % number for number in range(4, 14)])
    await bench.until(lambda: transport.reads == 14)
    assert bench.submitted == list(range(12))  # eight at the latest, though nothing was written
    transport.gate.set()
    await bench.until(lambda: len(bench.replies) == 10)
    bench.draw(*range(4, 14))
    await bench.end()


async def test_a_drain_and_a_long_reply_submit_what_was_gathered():
    transport = Transport()
    bench = Bench(transport, limit=16)
    transport.gate.clear()
    transport.send(b"1", b"2", b"3")
    await bench.until(lambda: len(bench.replies) == 3)
    bench.draw(1, 2, 3)
    await bench.until(lambda: transport.written)
    transport.send(b"4")
    await bench.until(lambda: transport.reads == 4)
    assert not bench.replies
    bench.stream.submit_gathered()  # as a drain does before it closes the queue
    assert list(bench.replies) == [4]
    transport.send(b"5")
    await bench.until(lambda: transport.reads == 5)
    assert list(bench.replies) == [4]
    bench.stream.put([b"part"], 4)
    assert list(bench.replies) == [4, 5]
    transport.send(b"6")
    await bench.until(lambda: 6 in bench.replies)  # parts may be without end
    transport.gate.set()
    bench.draw(4, 5, 6)
    await bench.end()


async def test_a_failure_answers_its_own_request_and_no_other(transport, caplog):
    bench = Bench(transport, limit=16)
    transport.send(b"1", b"bad", b"2", b"3", b"4")
    await bench.until(lambda: len(bench.replies) == 4)
    bench.replies.pop(1).set_exception(OverloadedError("full", reason="queue_rows", retry_after_s=1.0))
    bench.replies.pop(2).set_exception(RuntimeError("the secret cause"))
    bench.draw(3, result="bug")
    bench.draw(4)
    await bench.end()
    written = [message for batch in transport.written for message in batch]
    assert written[0].startswith(b"99 failed")
    assert written[1].startswith(b"1 failed")
    assert written[2:] == [b"2 failed: INTERNAL", b"3 failed: INTERNAL", b"4"]
    assert b"secret" not in b"".join(written)
    assert "could not be encoded" in caplog.text
    assert (bench.answered("INVALID_ARGUMENT"), bench.answered("RESOURCE_EXHAUSTED")) == (1, 1)


async def test_a_reply_beyond_the_bound_is_refused_in_its_place(transport):
    bench = Bench(transport, limit=16, max_bytes=4 * LEAST_BYTES)
    transport.gate.clear()
    transport.send(b"1", b"2")
    await bench.until(lambda: len(bench.replies) == 2)
    bench.draw(1, result=bytes(2 * LEAST_BYTES))
    bench.draw(2, result=bytes(3 * LEAST_BYTES))
    transport.gate.set()
    await bench.end()
    written = [message for batch in transport.written for message in batch]
    assert written[0] == b"1"
    assert written[1].startswith(b"2 failed")
    assert bench.metrics.shed.value("reply_bytes") == 1
    assert len(bench.refused) == 1


async def test_a_reply_counts_with_what_writing_it_takes_until_it_is_written(transport):
    bench = Bench(transport, limit=16)
    transport.gate.clear()
    transport.send(b"1", b"2", b"3")
    await bench.until(lambda: len(bench.replies) == 3)
    bench.draw(1, 2, result=Result())
    bench.draw(3)
    assert bench.held.bytes == 7 * LEAST_BYTES + 1  # one message is written at a time
    await bench.until(lambda: transport.written)
    assert bench.held.bytes == 7 * LEAST_BYTES + 1
    transport.gate.set()
    await bench.end()
    assert [message[:1] for batch in transport.written for message in batch] == [b"1", b"1", b"2", b"2", b"3"]
    assert bench.held.bytes == 0


async def test_a_reply_that_breaks_off_ends_with_its_error(transport, caplog):
    bench = Bench(transport, limit=16)
    transport.send(b"%d" % BUG, b"1")
    await bench.until(lambda: len(bench.replies) == 2)
    bench.draw(BUG, result=Result())
    bench.draw(1)
    await bench.end()
    written = [message.rstrip(b"\0") for batch in transport.written for message in batch]
    assert written == [b"%d" % BUG, b"%d failed: INTERNAL" % BUG, b"1"]
    assert "could not be encoded" in caplog.text


async def test_a_waiting_reply_holds_no_request_and_an_ended_call_no_reply(transport):
    """Garbage is collected far too seldom: what a client leaves behind would add up."""
    bench = Bench(transport, limit=16)
    transport.gate.clear()
    transport.send(b"1", b"2")
    await bench.until(lambda: len(bench.replies) == 2)
    requests = [weakref.ref(reply.request) for reply in bench.replies.values()]
    gc.disable()
    try:
        results = []
        for number in (1, 2):
            result = Result()
            results.append(weakref.ref(result))
            bench.draw(number, result=result)
        del result
        await bench.until(lambda: transport.written)
        assert [own() for own in requests] == [None, None]
        assert all(own() is not None for own in results)
        bench.running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await bench.running
        assert [own() for own in results] == [None, None]
        assert bench.held.bytes == 0
    finally:
        gc.enable()
    transport.close()


async def test_what_is_in_flight_when_the_call_ends_is_cancelled(transport):
    bench = Bench(transport, limit=16)
    transport.send(b"1", b"2")
    await bench.until(lambda: len(bench.replies) == 2)
    seen: list[Any] = []
    bench.replies[1].add_done_callback(seen.append)
    bench.running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await bench.running
    assert all(reply.cancelled() for reply in bench.replies.values())
    assert seen == [bench.replies[1]]
    assert bench.answered("CANCELLED") == 2
    transport.close()  # as grpcio does, so that the reader ends


async def test_a_drain_answers_what_is_in_flight_and_ends_the_stream(transport):
    bench = Bench(transport, limit=16)
    transport.send(b"1")
    await bench.until(lambda: bench.replies)
    bench.stream.drain()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not bench.running.done()
    bench.draw(1)
    with pytest.raises(UnavailableError):
        await asyncio.wait_for(bench.running, WAIT_S)
    assert transport.written == [[b"1"]]
    transport.close()


class Joins:
    """Joins numbers that come together, and keeps the replies of those that it has queued."""

    def __init__(self) -> None:
        self.replies: list[Any] = []
        self.refuses: bool | Exception = False

    def join(self, messages: list[bytes]) -> list[Any]:
        parts: list[Any] = []
        for message in messages:
            if not message.isdigit():
                parts.append(message)
            elif parts and isinstance(parts[-1], JointRequest):
                parts[-1].ids.append(int(message))
                parts[-1].messages.append(message)
            else:
                parts.append(JointRequest(SimpleNamespace(), [int(message)], [], [message]))
        return parts

    def submit(self, reply: Any, joint: Any, arrival: float, deadline: float, connection: str) -> bool:
        assert (deadline, connection) == (9.0, "a")
        if isinstance(self.refuses, Exception):
            raise self.refuses
        if not self.refuses:
            self.replies.append(reply)
        return not self.refuses

    def encode(self, joint: Any, result: Any) -> Encoded:
        if result == "bug":
            raise RuntimeError("the secret cause")
        messages = tuple(b"%d jointly" % own for own in joint.ids)
        return Encoded(messages, len(result or b""), 0)


async def test_joint_requests_are_answered_each():
    joins, transport = Joins(), Together()
    bench = Bench(transport, limit=16, joins=joins)
    transport.send(b"1", b"2", b"bad", b"3", b"4", b"5")
    await bench.until(lambda: len(joins.replies) == 2)
    joins.replies[1].set_result(None)
    joins.replies[0].set_result(None)
    await bench.end()
    written = [message for batch in transport.written for message in batch]
    assert written[0].startswith(b"99 failed")
    assert written[1:] == [b"%d jointly" % number for number in (3, 4, 5, 1, 2)]
    assert (bench.answered("OK"), bench.answered("INVALID_ARGUMENT")) == (5, 1)


async def test_each_joint_request_is_in_flight():
    joins, transport = Joins(), Together()
    bench = Bench(transport, limit=4, joins=joins)
    transport.send(*[b"%d" % number for number in range(6)])
    await bench.until(lambda: joins.replies)
    for _ in range(20):
        await asyncio.sleep(0)
    assert (len(joins.replies), transport.reads) == (1, 4)
    joins.replies[0].set_result(None)
    await bench.until(lambda: len(joins.replies) == 2)
    joins.replies[1].set_result(None)
    await bench.end()
    assert bench.answered("OK") == 6


@pytest.mark.parametrize("refuses", [True, RuntimeError("the secret cause")], ids=["no room", "a bug"])
async def test_what_cannot_be_queued_together_is_queued_one_by_one(refuses):
    joins, transport = Joins(), Together()
    joins.refuses = refuses
    bench = Bench(transport, limit=16, joins=joins)
    transport.send(b"1", b"2", b"3")
    await bench.until(lambda: len(bench.replies) == 3)
    assert bench.submitted == [1, 2, 3]
    bench.draw(3, 2, 1)
    await bench.end()
    assert transport.written == [[b"3", b"2", b"1"]]
    assert bench.answered("OK") == 3


@pytest.mark.parametrize(
    ("error", "told"), [(OverloadedError("full", reason="queue_rows", retry_after_s=1.0), 2), (RuntimeError("x"), 2)]
)
async def test_what_fails_a_joint_request_is_told_of_each(error, told):
    joins, transport = Joins(), Together()
    bench = Bench(transport, limit=16, joins=joins)
    transport.send(b"1", b"2")
    await bench.until(lambda: joins.replies)
    joins.replies[0].set_exception(error)
    await bench.end()
    written = [message for batch in transport.written for message in batch]
    reason = getattr(error, "reason", "INTERNAL").encode()
    assert written == [b"1 failed: " + reason, b"2 failed: " + reason]
    assert bench.answered("RESOURCE_EXHAUSTED") + bench.answered("INTERNAL") == told == len(bench.refused)


async def test_joint_replies_that_cannot_be_encoded_or_held_fail():
    joins, transport = Joins(), Together()
    bench = Bench(transport, limit=16, max_bytes=LEAST_BYTES, joins=joins)
    transport.send(b"1", b"2", b"bad", b"3", b"4")
    await bench.until(lambda: len(joins.replies) == 2)
    joins.replies[0].set_result("bug")
    joins.replies[1].set_result(bytes(2 * LEAST_BYTES))
    await bench.end()
    written = [message for batch in transport.written for message in batch]
    assert written[1:3] == [b"1 failed: INTERNAL", b"2 failed: INTERNAL"]
    assert [message[:8] for message in written[3:]] == [b"3 failed", b"4 failed"]
    assert b"INTERNAL" not in written[3]


async def test_joint_requests_are_cancelled_with_their_call():
    joins, transport = Joins(), Together()
    bench = Bench(transport, limit=16, joins=joins)
    transport.send(b"1", b"2", b"3")
    await bench.until(lambda: joins.replies)
    bench.running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await bench.running
    assert joins.replies[0].cancelled()
    assert bench.answered("CANCELLED") == 3
    transport.close()


class Traced:
    """The record of a call that is traced: what ended, with which code, once how many writes were begun."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.trace = self
        self.is_stream = False
        self.bytes_in = self.bytes_out = 0
        self.ended: list[tuple[int, Code, int]] = []

    def streamed(self, began_s: float) -> Any:
        return SimpleNamespace(
            submit=lambda submit, *arguments: submit(*arguments),
            end=lambda request_id, code: self.ended.append((request_id, code, len(self.transport.written))),
        )


async def test_the_span_of_each_request_ends_when_its_reply_is_written_or_nobody_reads_it(transport):
    record = Traced(transport)
    before = ARRIVED.set(SimpleNamespace(record=record))
    try:
        bench = Bench(transport, limit=16)
    finally:
        ARRIVED.reset(before)
    assert record.is_stream
    transport.send(b"1", b"bad", b"2", b"3", b"4")
    await bench.until(lambda: len(bench.replies) == 4)
    await bench.until(lambda: transport.written)
    bench.draw(1)
    await bench.until(lambda: len(record.ended) == 2)
    assert [own[:2] for own in record.ended] == [(99, Code.INVALID_ARGUMENT), (1, Code.OK)]
    assert record.ended[1][2] == 2
    assert record.bytes_out == sum(len(message) for batch in transport.written for message in batch)
    transport.gate.clear()
    bench.draw(2)
    await bench.until(lambda: len(transport.written) == 3)
    bench.draw(3)
    assert len(record.ended) == 2  # one is being written, one waits, one is drawn
    bench.running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await bench.running
    ended = {request_id: code for request_id, code, _ in record.ended[2:]}
    assert ended == {2: Code.OK, 3: Code.OK, 4: Code.CANCELLED}
    transport.close()


async def test_a_bug_of_one_reply_does_not_reach_the_others_of_its_batch(transport, caplog):
    bench = Bench(transport, limit=16)
    transport.send(b"1", b"2")
    await bench.until(lambda: len(bench.replies) == 2)

    def fail(_reply: Any) -> None:
        raise RuntimeError("a bug")

    bench.replies[1].add_done_callback(fail)
    bench.draw(1, 2)
    await bench.end()
    assert [message for batch in transport.written for message in batch] == [b"1", b"2"]
    assert "could not be passed on" in caplog.text
