"""What the retry target answers to SampleDistribution: draws that are refused, cut off, slow, silent or endless."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

import grpc

from samplerd.v1 import sampler_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LargeDraws"]

_PUSHBACK_MS = 100
_REFUSALS = 2
_SLOW_CHUNKS = 5
_SLOW_S = 0.5
"""Between two chunks of the slow draw, which takes longer in all than a client waits for one chunk."""
_END_S = 20.0
"""How long a draw that its client has left may take to end."""
_DISTRIBUTION_KEY = "x-samplerd-distribution"
_ONCE = ("broken", "cut", "slow", "silent", "endless")


class LargeDraws:
    """Answers each distribution as README.md says, and remembers what was asked."""

    def __init__(self) -> None:
        self.asked: dict[str, list[float]] = defaultdict(list)
        """When each distribution was asked for, in seconds."""
        self.unnamed = 0
        """Calls whose metadata did not name their distribution."""
        self._in_flight = 0
        self._changed = threading.Condition()
        self.is_left = threading.Event()
        """Somebody was told that nothing is in flight after the endless draw."""

    @property
    def handler(self) -> grpc.RpcMethodHandler[pb.SampleRequest, pb.SampleResponse]:
        """The method, for a server."""
        return grpc.unary_stream_rpc_method_handler(
            self._answer,
            request_deserializer=pb.SampleRequest.FromString,
            response_serializer=pb.SampleResponse.SerializeToString,
        )

    def wait_until_left(self, request: pb.SampleRequest, context: grpc.ServicerContext) -> pb.SampleResponse:
        """Answer a unary draw once no large draw is in flight."""
        with self._changed:
            is_left = self._changed.wait_for(lambda: self._in_flight == 0, _END_S)
        if not is_left or not self.asked["endless"]:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "a draw that nobody reads is still in flight")
        self.is_left.set()
        return pb.SampleResponse(id=request.id, samples=[7], final=True)

    def _answer(self, request: pb.SampleRequest, context: grpc.ServicerContext) -> Iterator[pb.SampleResponse]:
        ended = threading.Event()

        def end() -> None:
            ended.set()
            self._count(-1)

        self._count(1)
        if not context.add_callback(end):
            self._count(-1)
            return
        name = request.distribution
        times = self.asked[name]
        times.append(time.monotonic())
        if dict(context.invocation_metadata()).get(_DISTRIBUTION_KEY) != name:
            self.unnamed += 1
        if name == "busy":
            if len(times) <= _REFUSALS:
                context.set_trailing_metadata((("grpc-retry-pushback-ms", str(_PUSHBACK_MS)),))
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "come back later")
            yield from (_chunk(request, index, is_final=index == 1) for index in range(2))
            return
        if name not in _ONCE:
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no distribution {name}")
        yield from _begun(request, ended)
        if name == "broken":
            context.set_trailing_metadata((("grpc-retry-pushback-ms", "1"),))
            context.abort(grpc.StatusCode.UNAVAILABLE, "gone in the middle")

    def _count(self, change: int) -> None:
        with self._changed:
            self._in_flight += change
            self._changed.notify_all()

    def complaint(self) -> str:
        """Say what was wrong with how it was asked; empty: nothing."""
        times = self.asked["busy"]
        if len(times) != _REFUSALS + 1:
            return f"a draw that was refused came {len(times)} times, not {_REFUSALS + 1}"
        waits = [after - before for before, after in pairwise(times)]
        if min(waits) < _PUSHBACK_MS / 1e3:
            return f"a draw came again after {min(waits):.3f} s, before the pushback"
        again = [name for name in _ONCE if len(self.asked[name]) != 1]
        if again:
            return f"draws that had begun, {', '.join(again)}, did not come exactly once"
        if self.unnamed:
            return f"{self.unnamed} draws did not carry {_DISTRIBUTION_KEY}"
        return "" if self.is_left.is_set() else "nobody asked whether the endless draw has ended"


def _begun(request: pb.SampleRequest, ended: threading.Event) -> Iterator[pb.SampleResponse]:
    """Yield the chunks of a draw that has begun, until they end or the call does."""
    name, index = request.distribution, 0
    yield _chunk(request, index)
    if name == "silent":
        ended.wait()
    while name in {"slow", "endless"} and not ended.wait(_SLOW_S if name == "slow" else 0.0):
        index += 1
        is_final = name == "slow" and index == _SLOW_CHUNKS - 1
        yield _chunk(request, index, is_final=is_final)
        if is_final:
            return


def _chunk(request: pb.SampleRequest, index: int, *, is_final: bool = False) -> pb.SampleResponse:
    return pb.SampleResponse(id=request.id, samples=[7 + index % 2], chunk=index, seed=5, final=is_final)
