"""The handlers of a whole server behind the ASGI adapter, in this process and with the compiled sampler."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

from samplerd_server.app.app import App
from samplerd_server.config import ServerConfig
from samplerd_server.transport.envoy.asgi import AsgiApp
from tests.support.engine import StubEngine
from tests.support.regions import PREFIX
from tests.support.samplers import make_sampler

MESSAGE_BYTES = 1 << 16
_WAIT_S = 20.0


class Call(NamedTuple):
    """One request of HTTP, as an ASGI server gives it."""

    method: str
    path: str
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    cuts: tuple[int, ...] = ()
    """Where the body is cut into pieces."""
    leaves: bool = False
    """Whether the client goes away instead of ending the body."""


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    """With the trailers."""
    body: bytes
    is_whole: bool


class Server:
    """One server for a whole run."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        config = ServerConfig()
        transport = dataclasses.replace(
            config.transport, transport="envoy", max_message_bytes=MESSAGE_BYTES, shared_memory_prefix=PREFIX
        )
        limits = dataclasses.replace(config.limits, max_samples=1 << 10)
        metrics = dataclasses.replace(config.metrics, listen="")
        # The event loop turns only while a call is answered, which the watchdog would take for a stall, and end us all.
        engine = dataclasses.replace(config.engine, stall_limit_s=0.0)
        config = dataclasses.replace(config, transport=transport, limits=limits, metrics=metrics, engine=engine)
        self.app = self.loop.run_until_complete(self._start(config))
        self.asgi = AsgiApp(self.app.handlers.generic, max_message_bytes=MESSAGE_BYTES, intake=self.app.intake)
        self.complaints: list[str] = []
        self._handler = handler = logging.Handler(logging.ERROR)
        handler.emit = lambda record: self.complaints.append(handler.format(record))  # type: ignore[method-assign]
        logging.getLogger("samplerd").addHandler(handler)

    def stop(self) -> None:
        """End the server, and whatever it runs."""
        logging.getLogger("samplerd").removeHandler(self._handler)
        self.loop.run_until_complete(self.app.stop())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    async def _start(self, config: ServerConfig) -> App:
        app = App(config, StubEngine(make_sampler("numba")), self.loop)  # type: ignore[arg-type]
        await app.start()
        return app

    def answer(self, call: Call) -> Answer:
        """Answer a call; fails if the adapter breaks a rule of ASGI, logs an error, or leaves anything behind."""
        return self.loop.run_until_complete(asyncio.wait_for(self._answer(call), _WAIT_S))

    async def _answer(self, call: Call) -> Answer:
        sent: list[dict[str, Any]] = []
        edges = [0, *sorted(cut % (len(call.body) + 1) for cut in call.cuts), len(call.body)]
        pieces = [call.body[begin:end] for begin, end in pairwise(edges)]
        events = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
        events[-1]["more_body"] = call.leaves
        ended = asyncio.Event()

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(0)
            if events:
                return events.pop(0)
            if not call.leaves and not ended.is_set():
                return {"type": "http.request", "body": b"", "more_body": False}  # as pyvoy does
            return {"type": "http.disconnect"}

        async def send(event: Any) -> None:
            sent.append(dict(event))
            await asyncio.sleep(0)

        scope = {
            "type": "http",
            "method": call.method,
            "path": call.path,
            "query_string": call.query.encode("latin-1"),
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in call.headers],
            "client": ("10.0.0.1", 1234),
        }
        # pyvoy waits for tasks in its own way: here every call is one task.
        await asyncio.ensure_future(self.asgi(scope, lambda: asyncio.ensure_future(receive()), send))
        ended.set()
        assert self.complaints == [], self.complaints.pop()
        assert self.asgi.running == 0
        assert self.app.intake.bytes == 0
        return _read(sent)


def _read(sent: list[dict[str, Any]]) -> Answer:
    """Check the order of events, and put them together."""
    kinds = [event["type"].rpartition(".")[2] for event in sent]
    if not sent:
        return Answer(0, {}, b"", is_whole=False)
    assert kinds[0] == "start", kinds
    assert kinds.count("start") == 1, kinds
    has_trailers = bool(sent[0].get("trailers"))
    bodies = [event for event in sent if event["type"] == "http.response.body"]
    assert kinds == ["start", *["body"] * len(bodies), *["trailers"] * (kinds[-1] == "trailers")], kinds
    assert kinds[-1] != "trailers" or has_trailers
    pairs = [pair for event in sent for pair in event.get("headers", ())]
    assert all(isinstance(name, bytes) and isinstance(value, bytes) for name, value in pairs), pairs
    assert all(b"\n" not in value and b"\r" not in value for _, value in pairs), pairs
    headers = {name.decode().lower(): value.decode("latin-1") for name, value in pairs}
    body = b"".join(bytes(event.get("body", b"")) for event in bodies)
    more = bool(bodies and bodies[-1].get("more_body"))
    is_whole = kinds[-1] == "trailers" if has_trailers else bool(bodies) and not more
    return Answer(int(sent[0]["status"]), headers, body, is_whole)


@cache
def server() -> Server:
    """The server of this process."""
    return Server()


def stop_server() -> None:
    """End the server of this process, if there is one."""
    if server.cache_info().currsize:
        server().stop()
        server.cache_clear()
