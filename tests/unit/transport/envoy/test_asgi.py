"""The ASGI adapter against a played pyvoy, which complains of a cancelled future as the real one does."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import struct
import threading
import time
import zlib
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.core.errors import Code
from samplerd_server.transport.envoy import asgi_watch, proto_json, reply_body
from samplerd_server.transport.envoy.asgi import AsgiApp
from samplerd_server.transport.envoy.frames import frame
from samplerd_server.transport.rpc.arrival import ARRIVED
from tests.support.asgi import Client, framed

LIMIT = 1 << 16
WAIT_S = 10.0
LATE = (b"grpc-timeout", b"20m")
GZIP = (b"grpc-encoding", b"gzip")
ZIPPED = gzip.compress(b"abc")
BOMB = gzip.compress(bytes(LIMIT + 1))


class Handlers:
    """Handlers that wait for the test, and say how they ended."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.entered = asyncio.Event()
        self.seen: list[Any] = []
        self.outcomes: list[str] = []

    def app(self) -> AsgiApp:
        methods = {
            "unary": grpc.unary_unary_rpc_method_handler(self.recorded(self.unary)),
            "stream": grpc.stream_stream_rpc_method_handler(self.recorded(self.stream)),
            "flood": grpc.unary_stream_rpc_method_handler(self.recorded(self.flood)),
            "together": grpc.stream_stream_rpc_method_handler(self.recorded(self.together)),
            "generated": grpc.stream_stream_rpc_method_handler(self.generated),
            "sum": grpc.stream_unary_rpc_method_handler(self.sum),
            "abort": grpc.unary_unary_rpc_method_handler(self.abort),
            "raise": grpc.unary_unary_rpc_method_handler(self.fail),
        }
        return AsgiApp([grpc.method_handlers_generic_handler("test", methods)], max_message_bytes=LIMIT)

    def recorded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def handler(argument: Any, context: Any) -> Any:
            self.entered.set()
            try:
                reply = await function(argument, context)
            except BaseException as error:
                self.outcomes.append("cancelled" if isinstance(error, asyncio.CancelledError) else "failed")
                raise
            self.outcomes.append("ok")
            return reply

        return handler

    async def unary(self, message: bytes, context: Any) -> bytes:
        self.seen.append((message, context.peer(), context.time_remaining()))
        await self.gate.wait()
        return message[::-1]

    async def stream(self, _messages: Any, context: Any) -> None:
        while isinstance(message := await context.read(), bytes):
            await context.write(message)
        await self.gate.wait()

    async def together(self, _messages: Any, context: Any) -> None:
        while messages := await context.read_many(3):
            self.seen.append(messages)
            await context.write_many(messages)

    async def flood(self, message: bytes, context: Any) -> None:
        for _ in range(1000):
            await context.write(message)

    async def generated(self, messages: Any, _context: Any) -> Any:
        async for message in messages:
            yield message * 2

    async def sum(self, messages: Any, _context: Any) -> bytes:
        return b"".join([message async for message in messages])

    async def abort(self, _message: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((("a-bin", b"\1"),))
        await context.abort(grpc.StatusCode.NOT_FOUND, "kein Gerät", (("b", "c"),))
        raise AssertionError("abort returned")

    async def fail(self, _message: bytes, _context: Any) -> bytes:
        raise RuntimeError("the secret cause")


@pytest.fixture
async def handlers(monkeypatch):
    monkeypatch.setattr(asgi_watch, "_TICK_S", 0.001)
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    yield Handlers()
    gc.collect()
    await asyncio.sleep(0.003)
    assert not complaints
    assert asyncio.all_tasks() == {asyncio.current_task()}, "a call left a task"


async def serve(app: AsgiApp, client: Client) -> None:
    await asyncio.wait_for(app(client.scope, client.receive, client.send), WAIT_S)


async def test_a_unary_call(handlers):
    handlers.gate.set()
    app, client = handlers.app(), Client("/test/unary", framed(b"abc"), (b"grpc-timeout", b"5S"))
    client.close()
    await serve(app, client)
    assert client.replies == framed(b"cba")
    assert client.status == {b"grpc-status": b"0"}
    [(message, peer, remaining)] = handlers.seen
    assert (message, peer) == (b"abc", "ipv4:10.0.0.1:1234")
    assert 4 < remaining <= 5
    assert client.receives == 1


@pytest.mark.parametrize("size", [1, 3, 5, 6, 100])
async def test_a_body_in_pieces(handlers, size):
    handlers.gate.set()
    app, client, body = handlers.app(), Client(), framed(b"x" * 40)
    serving = asyncio.create_task(serve(app, client))
    for begin in range(0, len(body), size):
        client.feed(body[begin : begin + size])
        await asyncio.sleep(0)
    client.close()
    await serving
    assert client.replies == framed(b"x" * 40)


@pytest.mark.parametrize(("size", "pieces"), [(8, [13]), (10, [5, 8, 2]), (16, [5, 8, 8]), (40, [5, 8, 8, 8, 8, 8])])
@pytest.mark.parametrize(("path", "sent"), [("/test/unary", 1), ("/test/generated", 2)])
async def test_a_long_reply_is_sent_in_pieces(handlers, monkeypatch, path, sent, size, pieces):
    monkeypatch.setattr(reply_body, "_PIECE_BYTES", 8)
    handlers.gate.set()
    client = Client(path, framed(b"x" * (size // sent)))
    client.close()
    await serve(handlers.app(), client)
    assert (client.replies, client.status) == (framed(b"x" * size), {b"grpc-status": b"0"})
    bodies = [event["body"] for event in client.sent if event["type"] == "http.response.body"]
    assert [len(body) for body in bodies if body] == pieces


async def test_a_drain_waits_for_a_long_reply_whose_handler_is_done(handlers, monkeypatch):
    monkeypatch.setattr(reply_body, "_PIECE_BYTES", 8)
    handlers.gate.set()
    app, client = handlers.app(), Client("/test/unary", framed(b"x" * 100))
    client.close()
    await asyncio.wait_for(app.replies.wait_sent(), 1)  # nothing is being sent
    serving = asyncio.create_task(serve(app, client))
    await handlers.entered.wait()
    assert handlers.outcomes == ["ok"]
    assert len(client.replies) < 100, "the handler is done, and its reply is not sent"
    await asyncio.wait_for(app.replies.wait_sent(), 10)
    assert (client.replies, client.status) == (framed(b"x" * 100), {b"grpc-status": b"0"})
    await serving


async def test_a_client_that_goes_within_a_long_reply_ends_the_call(handlers, monkeypatch):
    monkeypatch.setattr(reply_body, "_PIECE_BYTES", 8)
    handlers.gate.set()
    client = Client("/test/unary", framed(b"x" * 100))
    client.close()
    client.reads = False
    serving = asyncio.create_task(serve(handlers.app(), client))
    await client.replied()
    client.leave()
    await serving
    assert len(client.replies) < 100
    assert handlers.outcomes == ["ok"]


@pytest.mark.parametrize(("path", "reply"), [("/test/generated", framed(b"aa", b"bb")), ("/test/sum", framed(b"ab"))])
async def test_handlers_that_iterate(handlers, path, reply):
    client = Client(path, framed(b"a", b"b"))
    client.close()
    await serve(handlers.app(), client)
    assert (client.replies, client.status) == (reply, {b"grpc-status": b"0"})


async def test_a_stream_answers_before_it_has_all(handlers):
    handlers.gate.set()
    app, client = handlers.app(), Client("/test/stream")
    serving = asyncio.create_task(serve(app, client))
    for message in (b"a", b"b"):
        client.feed(framed(message))
        await client.replied(framed(message))
    client.close()
    await serving
    assert client.status == {b"grpc-status": b"0"}


async def test_messages_that_come_together_are_read_and_written_together(handlers):
    client = Client("/test/together", framed(b"a", b"", b"ccc", b"d") + framed(b"later")[:7])
    serving = asyncio.create_task(serve(handlers.app(), client))
    await client.replied(framed(b"d"))
    client.feed(framed(b"later")[7:])
    await client.replied(framed(b"later"))
    client.close()
    await serving
    assert handlers.seen == [[b"a", b"", b"ccc"], [b"d"], [b"later"]]
    sent = [event["body"] for event in client.sent if event["type"] == "http.response.body"]
    assert sent == [framed(b"a", b"", b"ccc"), framed(b"d"), framed(b"later"), b""]
    assert client.status == {b"grpc-status": b"0"}


async def test_what_comes_before_a_message_that_is_refused_is_answered(handlers):
    client = Client("/test/together", framed(b"a", b"b") + struct.pack(">BI", 0, LIMIT + 1))
    await serve(handlers.app(), client)
    assert handlers.seen == [[b"a", b"b"]]
    assert client.replies == framed(b"a", b"b")
    assert client.status[b"grpc-status"] == b"%d" % Code.RESOURCE_EXHAUSTED


async def test_a_message_in_compressed_frames_is_read_in_its_place(handlers):
    body = framed(b"a") + frame(ZIPPED, 1) + framed(b"b", b"c")
    client = Client("/test/together", body, GZIP)
    client.close()
    await serve(handlers.app(), client)
    assert handlers.seen == [[b"a"], [b"abc", b"b", b"c"]]


async def test_an_abort_is_a_status_with_its_trailers(handlers):
    client = Client("/test/abort", framed(b""))
    client.close()
    await serve(handlers.app(), client)
    assert client.is_trailers_only
    assert client.status == {
        b"content-type": b"application/grpc",
        b"grpc-status": b"5",
        b"grpc-message": b"kein Ger%C3%A4t",
        b"a-bin": b"AQ==",
        b"b": b"c",
    }


async def test_a_bug_is_internal_and_says_nothing(handlers, caplog):
    client = Client("/test/raise", framed(b""))
    client.close()
    await serve(handlers.app(), client)
    assert client.status[b"grpc-status"] == b"13"
    assert b"secret" not in client.status[b"grpc-message"]
    assert "the secret cause" in caplog.text


REFUSED = {
    "unknown method": (Client("/test/nothing", framed(b"")), Code.UNIMPLEMENTED),
    "malformed timeout": (Client("/test/unary", framed(b""), (b"grpc-timeout", b"soon")), Code.INTERNAL),
    "unknown encoding": (Client("/test/unary", frame(b"x", 1), (b"grpc-encoding", b"br")), Code.UNIMPLEMENTED),
    "the same on a stream": (Client("/test/stream", frame(b"x", 1), (b"grpc-encoding", b"br")), Code.UNIMPLEMENTED),
    "compressed, but how?": (Client("/test/unary", frame(b"x", 1)), Code.INTERNAL),
    "unknown flags": (Client("/test/unary", frame(ZIPPED, 3), GZIP), Code.INTERNAL),
    "not gzip": (Client("/test/unary", frame(b"x", 1), GZIP), Code.INVALID_ARGUMENT),
    "bomb": (Client("/test/unary", frame(BOMB, 1), GZIP), Code.RESOURCE_EXHAUSTED),
    "bomb on a stream": (Client("/test/stream", frame(BOMB, 1), GZIP), Code.RESOURCE_EXHAUSTED),
    "too large": (Client("/test/unary", struct.pack(">BI", 0, LIMIT + 1)), Code.RESOURCE_EXHAUSTED),
    "too large on a stream": (Client("/test/stream", struct.pack(">BI", 0, LIMIT + 1)), Code.RESOURCE_EXHAUSTED),
    "empty": (Client("/test/unary"), Code.INTERNAL),
    "truncated": (Client("/test/unary", framed(b"abc")[:-1]), Code.INTERNAL),
    "truncated stream": (Client("/test/sum", framed(b"abc") + b"\0"), Code.INTERNAL),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_not_understood_is_refused(handlers, name):
    client, code = REFUSED[name]
    client.close()
    await serve(handlers.app(), client)
    assert client.status[b"grpc-status"] == str(int(code)).encode()
    assert (b"grpc-accept-encoding" in client.status) == (code is Code.UNIMPLEMENTED)


@pytest.mark.parametrize("path", ["/test/unary", "/test/sum"])
@pytest.mark.parametrize(("encoding", "pack"), [(b"gzip", gzip.compress), (b"deflate", zlib.compress)])
async def test_a_compressed_message_is_inflated(handlers, path, encoding, pack):
    handlers.gate.set()
    messages = {1: frame(pack(b"abc" * 1000), 1), 0: frame(b"abc" * 1000)}
    for body in messages.values():
        client = Client(path, body, (b"grpc-encoding", encoding))
        client.close()
        await serve(handlers.app(), client)
        assert client.status == {b"grpc-status": b"0"}
        assert client.replies[5:] == (b"cba" if path == "/test/unary" else b"abc") * 1000


async def test_without_te_there_could_be_no_status_so_it_is_in_the_headers(handlers):
    client = Client("/test/unary", framed(b""))
    client.scope["headers"].remove((b"te", b"trailers"))
    client.close()
    await serve(handlers.app(), client)
    assert client.is_trailers_only
    assert client.status[b"grpc-status"] == b"13"


@pytest.mark.parametrize(
    ("method", "content_type", "status"),
    [
        ("GET", b"application/grpc", 404),
        ("GET", b"application/json", 404),
        ("OPTIONS", b"", 404),
        ("POST", b"application/grpc+json", 415),
        ("POST", b"text/plain", 415),
        ("POST", b"application/grpc+proto", 200),
        ("POST", b"application/grpc;charset=utf-8", 200),
    ],
)
async def test_what_is_answered_at_all(handlers, method, content_type, status):
    handlers.gate.set()
    client = Client("/test/unary", framed(b""))
    client.scope["method"] = method
    client.scope["headers"][0] = (b"content-type", content_type)
    client.close()
    await serve(handlers.app(), client)
    assert client.sent[0]["status"] == status


# Clients that go, and deadlines.


async def test_a_call_that_waits_is_cancelled_when_its_client_goes(handlers):
    client = Client("/test/unary", framed(b"abc"))
    client.close()
    serving = asyncio.create_task(serve(handlers.app(), client))
    await handlers.entered.wait()
    client.leave()
    await serving
    assert handlers.outcomes == ["cancelled"]
    assert client.sent == []


async def test_a_client_that_waits_is_asked_after_ever_more_rarely(handlers, monkeypatch):
    monkeypatch.setattr(asgi_watch, "_GROWTH", 4.0)
    monkeypatch.setattr(asgi_watch, "_MAX_PAUSE_S", 3600.0)
    client = Client("/test/unary", framed(b"abc"))
    client.close()
    serving = asyncio.create_task(serve(handlers.app(), client))
    await asyncio.sleep(0.1)
    assert 2 <= client.receives <= 6
    handlers.gate.set()
    await serving
    assert client.replies == framed(b"cba")


async def test_a_client_that_goes_while_it_is_read_ends_the_call(handlers):
    client = Client("/test/stream", framed(b"abc"))
    serving = asyncio.create_task(serve(handlers.app(), client))
    await client.replied()
    client.leave()
    await serving
    assert handlers.outcomes == ["cancelled"]


async def test_a_client_that_goes_while_it_is_written_to_ends_the_call(handlers, caplog):
    client = Client("/test/flood", framed(b"abc"))
    client.close()
    client.reads = False
    serving = asyncio.create_task(serve(handlers.app(), client))
    await client.replied()
    client.leave()
    await serving
    assert handlers.outcomes == ["cancelled"]
    assert not caplog.records


async def test_after_the_half_close_a_stream_is_watched_too(handlers):
    client = Client("/test/stream", framed(b"abc"))
    client.close()
    serving = asyncio.create_task(serve(handlers.app(), client))
    await client.replied()
    client.leave()
    await serving
    assert handlers.outcomes == ["cancelled"]


@pytest.mark.parametrize("is_closed", [True, False], ids=["half-closed", "open"])
async def test_a_deadline_that_passes_while_the_handler_works_is_answered(handlers, is_closed):
    client = Client("/test/unary", framed(b"abc"), LATE)
    if is_closed:
        client.close()
    await serve(handlers.app(), client)
    assert handlers.outcomes == ["cancelled"]
    assert client.status[b"grpc-status"] == b"4"


@pytest.mark.parametrize("path", ["/test/unary", "/test/stream", "/test/sum"])
async def test_a_deadline_that_passes_while_the_client_is_read_is_answered(handlers, path):
    client = Client(path, framed(b"abc")[:-1], LATE)
    await serve(handlers.app(), client)
    assert client.status[b"grpc-status"] == b"4"


async def test_a_deadline_that_passes_while_the_client_does_not_read_is_answered(handlers):
    client = Client("/test/flood", framed(b"abc"), LATE)
    client.reads = False
    await serve(handlers.app(), client)
    assert handlers.outcomes == ["cancelled"]
    assert client.replies == frame(b"abc")
    assert client.status[b"grpc-status"] == b"4"


async def test_a_deadline_counts_from_when_envoy_had_the_call(handlers):
    ago = b"%.6f" % (time.time() - 5.0)
    for timeout, status in ((b"4S", b"4"), (b"60S", b"0")):
        client = Client("/test/unary", framed(b"abc"), (b"grpc-timeout", timeout), (b"x-samplerd-arrival", ago))
        client.close()
        if status == b"0":
            handlers.gate.set()
        await serve(handlers.app(), client)
        assert client.status[b"grpc-status"] == status
    (*_, remaining_s) = handlers.seen[-1]
    assert 50.0 < remaining_s <= 55.0


async def test_a_deadline_of_nothing_is_passed_at_once(handlers):
    client = Client("/test/unary", framed(b"abc"), (b"grpc-timeout", b"0n"))
    client.close()
    await serve(handlers.app(), client)
    assert client.status[b"grpc-status"] == b"4"


async def test_a_thousand_calls_that_wait_are_asked_after_a_few_at_a_time(handlers, monkeypatch):
    monkeypatch.setattr(asgi_watch, "_MAX_POLLS", 3)
    app = handlers.app()
    clients = [Client("/test/unary", framed(b"abc")) for _ in range(1000)]
    for client in clients:
        client.close()
    serving = [asyncio.create_task(serve(app, client)) for client in clients]
    await asyncio.sleep(0.02)
    for client in clients:
        client.leave()
    assert 1000 <= sum(client.receives for client in clients) <= 1000 + 3 * 25
    handlers.gate.set()
    await asyncio.gather(*serving)
    assert all(outcome in {"ok", "cancelled"} for outcome in handlers.outcomes)
    assert app._watch._calls == set()


@pytest.mark.parametrize("long_bytes", [0, 1 << 20], ids=["another thread", "the event loop"])
@pytest.mark.parametrize(("body", "status"), [(b'{"id": 7}', 200), (b'{"none": 7}', 400)])
async def test_json_is_converted_wherever_it_is_long(monkeypatch, body, status, long_bytes):
    threads = []
    monkeypatch.setattr(proto_json, "_INLINE_BYTES", long_bytes)
    for name in ("_from_json", "_to_json"):
        own = getattr(proto_json, name)
        monkeypatch.setattr(
            proto_json, name, lambda *a, own=own: (threads.append(threading.current_thread()), own(*a))[1]
        )

    async def sample(data: bytes, _context: Any) -> bytes:
        return pb.SampleResponse(id=pb.SampleRequest.FromString(data).id, samples=range(9)).SerializeToString()

    methods = {"Sample": grpc.unary_unary_rpc_method_handler(sample)}
    handler = grpc.method_handlers_generic_handler("samplerd.v1.SamplerService", methods)
    client = Client("/samplerd.v1.SamplerService/Sample", body)
    client.scope["headers"] = [(b"content-type", b"application/json")]
    client.close()
    await serve(AsgiApp([handler], max_message_bytes=LIMIT), client)
    assert client.sent[0]["status"] == status
    told = json.loads(client.replies)
    assert (told.get("id"), told.get("samples")) == (("7", list(range(9))) if status == 200 else (None, None))
    assert len(threads) == (2 if status == 200 else 1)
    assert {own is threading.main_thread() for own in threads} == {bool(long_bytes)}


async def test_the_arrival_that_envoy_tells_is_noted_and_not_shown_to_handlers():
    seen = []

    async def look(_message, context):
        seen.append((time.monotonic() - ARRIVED.get().time, dict(context.invocation_metadata())))
        return b""

    method = grpc.unary_unary_rpc_method_handler(look)
    app = AsgiApp([grpc.method_handlers_generic_handler("test", {"look": method})], max_message_bytes=LIMIT)
    for ago_s in (5.0, -5.0):
        client = Client("/test/look", framed(b""), (b"x-samplerd-arrival", f"{time.time() - ago_s:.6f}".encode()))
        client.close()
        await asyncio.create_task(app(client.scope, client.receive, client.send))
    [(waited_s, metadata), (of_the_future_s, _)] = seen
    assert 5.0 <= waited_s < 6.0
    assert 0.0 <= of_the_future_s < 1.0
    assert "x-samplerd-arrival" not in metadata
    assert app.running == 0
