"""Clients of Connect, gRPC-Web and gRPC, unchanged: the ids that samplerd's own client gets, and the errors.

On the transport grpcio they speak gRPC; on envoy all three protocols.
"""

from __future__ import annotations

import pytest

from tests.stock_clients.environments import PROTOS
from tests.stock_clients.native import native
from tests.stock_clients.run import run

pytestmark = [pytest.mark.stock, pytest.mark.timeout(600)]

FIELD = "params.top_p: 7.0 is not in (0.0, 1.0]"
PROTOCOLS = [("grpcio", "grpc"), ("envoy", "grpc"), ("envoy", "connect"), ("envoy", "grpc_web")]
ENVOY = pytest.mark.parametrize("daemon", ["envoy"], indirect=True)


def check_streams(got, own):
    assert got["bidi"] == [[number, own] for number in range(1, 6)]


def check_distribution(got, own):
    final = got.pop("final")
    deleted = got.pop("deleted")
    assert got == {"begins": own, "samples": 1_000_000, "begins_as_one_reply": True, "stopped_after": own}
    assert len(final) > 1
    assert final == [False] * (len(final) - 1) + [True]
    assert deleted["code"] == "not_found"


def check_errors(got, invalid, not_found, too_large):
    kinds = ["google.rpc.ErrorInfo", "google.rpc.BadRequest", "google.rpc.RequestInfo"]
    assert got["invalid"] == {"code": invalid, "message": FIELD, "details": kinds}
    assert (got["not_found"]["code"], got["not_found"]["details"]) == (not_found, kinds[::2])
    assert got["too_large"]["code"] == too_large


CODECS = [*((*own, "proto") for own in PROTOCOLS), ("envoy", "connect", "json")]


@pytest.mark.parametrize(("daemon", "protocol", "codec"), CODECS, indirect=["daemon"])
async def test_connect_for_python(daemon, protocol, codec):
    got = run("connect-python", "connect_python.py", daemon.address, protocol, codec)
    [own] = await native(daemon.address)
    assert got["unary"] == own
    assert got["long"] == 20_000
    assert got["big"] == [99_999]
    assert got["at_once"] == [own] * 20
    if protocol == "connect":
        assert (got["get"], got["get_info"]) == (own, "cpu")
    check_streams(got, own)
    assert sum(got["server_stream"]) == 1_000_000
    assert len(got["server_stream"]) > 1
    check_distribution(got["distribution"], own)
    check_errors(got, "invalid_argument", "not_found", "resource_exhausted")
    assert got["deadline"]["code"] in {"deadline_exceeded", "resource_exhausted"}  # late, or refused since it would be


@pytest.mark.parametrize(("daemon", "protocol"), PROTOCOLS, indirect=["daemon"])
async def test_connect_for_node(daemon, protocol):
    got = run("connect-node", "connect_node.cjs", daemon.address, protocol)
    [own] = await native(daemon.address)
    ways = ["unary", *(["get", "json", "http1"] if protocol == "connect" else [])]
    assert {way: got[way] for way in ways} == dict.fromkeys(ways, own)
    assert got["long"] == 20_000
    check_streams(got, own)
    check_errors(got, "InvalidArgument", "NotFound", "ResourceExhausted")


@ENVOY
@pytest.mark.parametrize("how", ["text", "binary"])
async def test_grpc_web(daemon, how):
    got = run("grpc-web", "grpc_web.cjs", daemon.address, how)
    [own] = await native(daemon.address)
    assert got["unary"] == own
    assert got["long"] == 20_000
    assert (got["invalid"]["code"], got["invalid"]["message"]) == (3, FIELD)
    if how == "text":
        assert got["stream"] == [own]


async def test_nice_grpc(daemon):
    got = run("nice-grpc", "nice_grpc.cjs", daemon.address, str(PROTOS))
    [own] = await native(daemon.address)
    assert got["unary"] == own
    assert got["many"] == [own] * 20
    check_streams(got, own)
    assert got["invalid"] == {"code": "INVALID_ARGUMENT", "message": FIELD}


async def test_betterproto_over_grpclib(daemon):
    got = run("betterproto", "betterproto_grpclib.py", daemon.address)
    [own] = await native(daemon.address)
    assert got["unary"] == own
    assert got["at_once"] == [own] * 20
    check_streams(got, own)
    assert got["invalid"] == {"code": "INVALID_ARGUMENT", "message": FIELD}
    assert got["late"] in {"DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}
