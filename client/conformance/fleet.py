"""Servers that a client takes turns on: each answers every draw with 0, counts, and says how healthy it is.

One is steady, one starts for ever, one drains after a few answers, one is gone after as many, and one is frozen.
"""

from __future__ import annotations

import selectors
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2

from samplerd.v1 import sampler_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ANSWERS", "CALLS", "SERVICE", "CountingServer", "Fleet"]

SERVICE = "samplerd.v1.SamplerService"
CALLS = 200
"""How many draws a runner makes, one after the other, about 10 ms apart."""
ANSWERS = 5
"""How many draws a server answers before it drains or goes."""
_LATE = CALLS // 5
"""Fewer draws than this may reach a server that drains: an equal share of all would be more."""
_POLL_S = 0.05
_PIECE_BYTES = 1 << 16
_Status = health_pb2.HealthCheckResponse


class CountingServer:
    """A server on a free port of the loopback interface; it is to be entered."""

    def __init__(self, *, is_serving: bool = True, drains: bool = False, goes: bool = False) -> None:
        self.draws = 0
        """Draws that came."""
        self.watchers = 0
        """Calls of Watch about the sampler's service."""
        self._is_serving, self._drains, self._goes = is_serving, drains, goes
        self._is_stopped = False
        self._changed = threading.Condition()
        self._server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
        sample = grpc.unary_unary_rpc_method_handler(
            self._sample, pb.SampleRequest.FromString, pb.SampleResponse.SerializeToString
        )
        watch = grpc.unary_stream_rpc_method_handler(
            self._watch, health_pb2.HealthCheckRequest.FromString, _Status.SerializeToString
        )
        handlers = (
            grpc.method_handlers_generic_handler(SERVICE, {"Sample": sample}),
            grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Watch": watch}),
        )
        self._server.add_generic_rpc_handlers(handlers)
        self.target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> CountingServer:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._change(is_serving=False, is_stopped=True)
        self._server.stop(None).wait()

    def _change(self, *, is_serving: bool, is_stopped: bool = False) -> None:
        with self._changed:
            self._is_serving, self._is_stopped = is_serving, is_stopped or self._is_stopped
            self._changed.notify_all()

    def _sample(self, request: pb.SampleRequest, _: grpc.ServicerContext) -> pb.SampleResponse:
        self.draws += 1
        if self.draws == ANSWERS and self._drains:
            self._change(is_serving=False)
        if self.draws == ANSWERS and self._goes:
            self._change(is_serving=False, is_stopped=True)
            self._server.stop(1.0)  # what it was asked already is answered
        return pb.SampleResponse(id=request.id, samples=[0], final=True)

    def _watch(
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> Iterator[health_pb2.HealthCheckResponse]:
        if request.service != SERVICE:
            yield _Status(status=_Status.SERVICE_UNKNOWN)
            return
        self.watchers += 1
        context.add_callback(lambda: self._change(is_serving=self._is_serving))
        told: bool | None = None
        while context.is_active():
            with self._changed:
                while told == self._is_serving and not self._is_stopped and context.is_active():
                    self._changed.wait()
                is_serving, is_stopped = self._is_serving, self._is_stopped
            if is_stopped:
                return
            if told != is_serving:
                told = is_serving
                yield _Status(status=_Status.SERVING if told else _Status.NOT_SERVING)


class FreezingServer(CountingServer):
    """A server behind a relay that stops after a few draws: connections stay open, more are made, and nothing comes."""

    def __enter__(self) -> FreezingServer:
        super().__enter__()
        self._behind, self._listener = self.target, socket.create_server(("127.0.0.1", 0))
        self.target = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._relay = threading.Thread(target=self._forward)
        self._relay.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._relay.join()
        super().__exit__()

    def __init__(self) -> None:
        super().__init__()
        self._stop = threading.Event()

    def _forward(self) -> None:
        """Pass on what comes until the server has answered so many draws; then hold all connections until the end."""
        host, port = self._behind.split(":")
        with ExitStack() as stack, selectors.DefaultSelector() as ready:
            ready.register(stack.enter_context(self._listener), selectors.EVENT_READ)
            while self.draws < ANSWERS and not self._stop.is_set():
                for key, _ in ready.select(_POLL_S):
                    if key.fileobj is self._listener:
                        near = stack.enter_context(self._listener.accept()[0])
                        far = stack.enter_context(socket.create_connection((host, int(port))))
                        ready.register(near, selectors.EVENT_READ, (near, far))
                        ready.register(far, selectors.EVENT_READ, (far, near))
                    elif not _pass_on(*key.data):
                        ready.unregister(key.fileobj)
            self._stop.wait()


def _pass_on(source: socket.socket, target: socket.socket) -> bool:
    """Pass on what has come; returns whether more may come."""
    with suppress(ConnectionError):
        data = source.recv(_PIECE_BYTES)
        if data:
            target.sendall(data)
            return True
        target.shutdown(socket.SHUT_WR)
    return False


class Fleet:
    """Five such servers; to be entered."""

    def __init__(self) -> None:
        self.steady = CountingServer()
        self.starting = CountingServer(is_serving=False)
        self.draining = CountingServer(drains=True)
        self.gone = CountingServer(goes=True)
        self.frozen = FreezingServer()
        self._all = (self.steady, self.starting, self.draining, self.gone, self.frozen)

    def __enter__(self) -> Fleet:
        for server in self._all:
            server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._all:
            server.__exit__()

    @property
    def targets(self) -> list[str]:
        """The addresses of all."""
        return [server.target for server in self._all]

    def complaint(self) -> str:
        """Say how the draws of a client of these and of a live server were wrongly spread; empty: they were not."""
        if self.starting.draws:
            return f"a server that was not serving got {self.starting.draws} draws"
        if not ANSWERS <= self.draining.draws < _LATE:
            return f"a server that drained after {ANSWERS} draws got {self.draining.draws}"
        if self.gone.draws < ANSWERS:
            return f"a server that goes after {ANSWERS} draws got {self.gone.draws}"
        if self.frozen.draws < ANSWERS:
            return f"a server that is frozen after {ANSWERS} draws got {self.frozen.draws}"
        live = CALLS - sum(server.draws for server in self._all)  # as every call was answered
        if min(self.steady.draws, live) < CALLS // 4:
            return f"two healthy servers got {self.steady.draws} and {live} of {CALLS} draws"
        unwatched = [server.target for server in self._all if not server.watchers]
        return f"nobody watched the health of {', '.join(unwatched)}" if unwatched else ""
