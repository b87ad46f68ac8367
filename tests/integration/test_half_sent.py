"""Many bodies of which only a part is ever sent, and a client that sends whole ones meanwhile."""

from __future__ import annotations

import struct

import pytest

from samplerd.v1 import sampler_pb2 as pb
from tests.support.daemon import Daemon
from tests.support.http2 import Connection
from tests.support.requests import one_hot, tensor
from tests.support.served import scrape

MIB = 1 << 20
BOUND = 16 * MIB


@pytest.fixture(scope="module")
def bounded():
    flags = "--incoming-bytes", str(BOUND), "--max-message-bytes", str(8 * MIB), "--transport", "envoy"
    with Daemon(*flags) as daemon:
        yield daemon


def whole() -> bytes:
    message = pb.SampleRequest(tensor=tensor(one_hot(1, 500_000, 7))).SerializeToString()
    return struct.pack(">BI", 0, len(message)) + message


@pytest.mark.parametrize("kind", ["application/grpc", "application/proto"])
def test_half_sent_bodies_are_bounded_and_shut_nobody_out(bounded, kind):
    half = (struct.pack(">BI", 0, 8 * MIB) if kind == "application/grpc" else b"") + bytes(2 * MIB)
    with Connection(bounded.address) as greedy, Connection(bounded.address) as polite:
        for _ in range(24):
            greedy.send(greedy.start(content_type=kind), half)
        for _ in range(3):
            reply = polite.call(whole())
            while reply.grpc_status == 8:
                assert int(reply.headers["grpc-retry-pushback-ms"]) > 0
                reply = polite.call(whole())
            assert reply.grpc_status == 0
        told = scrape(bounded.metrics_address)
        assert 0 < told["samplerd_incoming_bytes"] <= BOUND
        assert told['samplerd_shed_total{reason="incoming_bytes"}'] >= 8
    with Connection(bounded.address) as last:
        for _ in range(1000):
            assert last.call(b"\0\0\0\0\0", path="/samplerd.v1.SamplerService/GetServerInfo").grpc_status == 0
            if scrape(bounded.metrics_address)["samplerd_incoming_bytes"] == 0:
                return
    raise AssertionError("what callers that have gone had sent still counts")
