"""What replies that nobody reads take of a server's memory: no more than `--reply-bytes`, whatever they hold.

The server is a process of its own, whose memory is measured while hand-made clients ask and do not read.
"""

from __future__ import annotations

import contextlib
import struct
import time

import pytest

from benchmarks.abuse import Hostile
from benchmarks.scrape import read_metrics
from benchmarks.servers import SamplerServer
from samplerd.v1 import sampler_pb2 as pb

MIB = 1 << 20
BOUND = 128 * MIB
BESIDE = 96 * MIB
"""What the server takes beside waiting replies: results that are being drawn, eight requests and a batch at a time, and
what its allocator keeps of them."""
CALLERS, REQUESTS = 12, 32
"""Requests of a caller: together they ask for more than five times the bound."""
SAMPLES = 1 << 16
CHUNK_SAMPLES = 1 << 14
WAIT_S = 60.0


def request() -> bytes:
    """A request whose result has 28 bytes a sample, and so has its reply."""
    tensor = pb.Tensor(vocab_size=4, data=bytes(16))
    params = pb.SamplingParams(adaptive_target=0.5)
    outputs = pb.Outputs(raw_samples=True, rank=True, adaptive_state=True, logprobs=[pb.LOGPROB_KIND_RAW])
    message = pb.SampleRequest(num_samples=SAMPLES, seed=1, tensor=tensor, params=params, outputs=outputs)
    data = message.SerializeToString()
    return struct.pack(">BI", 0, len(data)) + data


def ask(own: Hostile, requests: int) -> None:
    """Ask on a stream, whose replies nobody will read."""
    own.greet()
    stream, headers = own.call("SampleStream")
    own.send(headers + own.frame(0, 0, stream, request() * requests))


def held(server: SamplerServer) -> float:
    return read_metrics(server.metrics_url).total("samplerd_reply_bytes")


def refusals(server: SamplerServer) -> float:
    return read_metrics(server.metrics_url).total("samplerd_shed_total", reason="reply_bytes")


class Watch:
    """The most memory that a server has taken since the watch began."""

    def __init__(self, server: SamplerServer) -> None:
        self._server = server
        self._before = server.rss_bytes()
        self.grown = 0

    def until(self, condition) -> None:
        end = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < end
            self.grown = max(self.grown, self._server.rss_bytes() - self._before)


@pytest.fixture
def server():
    flags = ("--reply-bytes", str(BOUND), "--chunk-samples", str(CHUNK_SAMPLES))
    with SamplerServer(*flags) as own:
        watch = Watch(own)
        with Hostile(own.port) as first:  # what the first request of its kind loads is no reply
            ask(first, 1)
            watch.until(lambda: held(own))
        watch.until(lambda: not held(own))
        yield own
        assert own.stop() == 0


def test_replies_that_wait_take_no_more_than_their_bound(server):
    watch = Watch(server)
    with contextlib.ExitStack() as stack:
        for _ in range(CALLERS):
            ask(stack.enter_context(Hostile(server.port)), REQUESTS)
        watch.until(lambda: refusals(server) >= 20)
        assert BOUND // 2 < held(server) <= BOUND
    assert watch.grown <= BOUND + BESIDE


def test_callers_that_leave_leave_no_replies_behind(server):
    watch = Watch(server)
    for _ in range(6):
        seen = refusals(server)
        with contextlib.ExitStack() as stack:
            for _ in range(4):
                ask(stack.enter_context(Hostile(server.port)), REQUESTS)
            watch.until(lambda seen=seen: refusals(server) > seen)
        watch.until(lambda: not held(server))
    assert watch.grown <= BOUND + BESIDE
