"""What hostile clients do by hand-made frames; memory stays bounded and others are answered meanwhile.

Each kind in small; `python -m benchmarks.abuse` has the large numbers, and peers that vanish, for half a minute.
"""

from __future__ import annotations

import asyncio
import struct
import time

import pytest

from benchmarks.abuse import ABUSES, FLAGS, Hostile, measure
from benchmarks.scrape import read_metrics
from benchmarks.servers import SamplerServer
from samplerd_server.config import ServerConfig, TransportConfig
from samplerd_server.transport.envoy.bootstrap import envoy_config
from samplerd_server.transport.grpcio import options as options_module
from samplerd_server.transport.grpcio.options import _lifetimes
from tests.support.served import Served

MIB = 1 << 20
SMALL = {
    "idle_connections": 0.08,
    "announced_lengths": 0.2,
    "pings": 0.02,
    "slow_writers": 0.1,
    "resets": 0.1,
    "oversize_metadata": 0.1,
    "slow_readers": 0.04,
    "half_messages": 0.05,
}
"""How much of each is enough to pass the bound here, if nothing bounded it."""
MOST_GROWN = 128 * MIB
RESETS = 4_000
ENVOY_RESETS = 10_000
"""Calls of a connection from which on Envoy closes it if most of them were reset."""
PATIENCE = 12.0
"""Others are answered: how soon is measured by the benchmark, since this machine may be busy."""


@pytest.fixture(scope="module", params=["grpcio", "envoy"])
def server(request):
    with SamplerServer(*FLAGS, transport=request.param) as own:
        yield own
        assert own.stop() == 0


@pytest.mark.parametrize("name", SMALL)
def test_abuse_is_bounded_and_others_are_answered(server, name):
    seen = measure(server, name, SMALL[name], PATIENCE)
    assert seen["faults"] == []
    assert seen["grown_bytes"] < MOST_GROWN
    assert seen["polite_calls"] >= 20


def unread_calls(server):
    """Until Envoy has taken the port of the metrics over, what answered before it may answer still."""
    end = time.monotonic() + 60
    while True:
        try:
            return read_metrics(server.metrics_url).total("samplerd_unread_calls_total")
        except (KeyError, OSError):
            assert time.monotonic() < end
            time.sleep(0.05)


# grpcio's core hands over each call, and drops those beyond 16,384 that wait.
@pytest.mark.parametrize("server", ["envoy"], indirect=True)
def test_calls_that_are_reset_with_what_began_them_do_not_begin(server):
    """One read of Envoy brings many calls and their resets: at most the first few of them run."""
    before = unread_calls(server)
    with Hostile(server.port) as own:
        own.greet()
        flood = b"".join(
            headers + own.frame(3, 0, stream, struct.pack(">I", 8))
            for stream, headers in (own.call("Sample") for _ in range(RESETS))
        )
        assert own.send(flood + own.frame(6, 0, 0, bytes(8)))  # a ping, which is answered once all is read
        own.wait_pong()
    begun = unread_calls(server) - before
    assert begun < RESETS / 10


@pytest.mark.parametrize("server", ["grpcio"], indirect=True)
def test_a_flood_of_resets_is_refused(server):
    with Hostile(server.port) as own:
        own.greet()
        end = time.monotonic() + 60
        while not read_metrics(server.metrics_url).total("samplerd_shed_total", reason="resets"):
            assert time.monotonic() < end
            for _ in range(2 * RESETS):
                stream, headers = own.call("Sample")
                assert own.send(headers + own.frame(3, 0, stream, struct.pack(">I", 8)))


@pytest.mark.parametrize("server", ["envoy"], indirect=True)
def test_a_connection_that_resets_all_its_calls_is_closed(server):
    with Hostile(server.port) as own:
        own.greet()
        for _ in range(ENVOY_RESETS + 1):
            stream, headers = own.call("Sample")
            if not own.send(headers + own.frame(3, 0, stream, struct.pack(">I", 8))):
                break
        assert own.wait_cut(60.0)


def test_each_kind_is_tried_but_for_the_one_that_takes_long():
    assert ABUSES.keys() - SMALL.keys() == {"half_open"}


def test_a_peer_that_vanishes_is_asked_after_and_given_twenty_seconds(tmp_path):
    transport = TransportConfig(listen=("127.0.0.1:1",), keepalive_s=7.0)
    options = dict(_lifetimes(transport))
    names = "grpc.keepalive_time_ms", "grpc.keepalive_timeout_ms", "grpc.http2.ping_timeout_ms"
    assert [options[name] for name in names] == [7_000, 20_000, 20_000]
    config = envoy_config(ServerConfig(transport=TransportConfig(transport="envoy", keepalive_s=7.0)), tmp_path)
    [listener] = config["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    assert manager["http2_protocol_options"]["connection_keepalive"] == {"interval": "7.000000s", "timeout": "20s"}


async def test_a_peer_that_vanishes_is_cut_by_grpcio_in_that_time(monkeypatch):
    """Long before the minute that gRPC gives a ping by itself."""
    monkeypatch.setattr(options_module, "_PING_TIMEOUT_MS", 500)
    async with Served(transport={"keepalive_s": 1.0}) as served:
        with Hostile(int(served.address.rpartition(":")[2])) as peer:
            peer.greet()
            assert await asyncio.to_thread(peer.wait_cut, 40.0)
