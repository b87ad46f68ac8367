"""What a client that is no gRPC library can send, frame by frame, over both transports: each gets an answer of its own,
and everyone else, on the same connection too, is served as before.
"""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from samplerd.v1 import sampler_pb2 as pb
from tests.integration.conftest import MAX_MESSAGE_BYTES
from tests.support.asgi import framed
from tests.support.daemon import Daemon
from tests.support.http2 import Connection
from tests.support.requests import one_hot, tensor

GOOD = framed(pb.SampleRequest(tensor=tensor(one_hot(1, 100, 42))).SerializeToString())

# grpcio takes any content type, and names no encoding it takes.
ENVOY = pytest.mark.parametrize("daemon", ["envoy"], indirect=True, scope="session")


@pytest.fixture
def connection(daemon):
    with Connection(daemon.address) as connection:
        yield connection
        # Whatever the test sent, the connection serves on.
        assert draw(connection) == [42]


def draw(connection: Connection) -> list[int]:
    reply = connection.call(GOOD)
    assert (reply.headers[":status"], reply.grpc_status) == ("200", 0), reply
    assert reply.headers["content-type"] == "application/grpc"
    return list(pb.SampleResponse.FromString(reply.body[5:]).samples)


def test_a_call(connection):
    assert draw(connection) == [42]


@ENVOY
@pytest.mark.parametrize("content_type", ["text/plain", "application/grpc-web+json", "application/grpc+json", "", None])
def test_another_content_type_is_no_call(connection, content_type):
    assert connection.call(GOOD, content_type=content_type).headers[":status"] == "415"


@pytest.mark.parametrize("body", [b"", GOOD[:3], GOOD[:-1]], ids=["none", "prefix", "cut"])
def test_a_call_whose_body_ends_before_its_message_is_answered(connection, body):
    reply = connection.call(body)
    assert (reply.grpc_status, reply.body) == (13, b"")


def test_get_is_no_call(connection):
    reply = connection.finish(connection.start(end=True, method="GET"))
    assert reply.headers.get(":status") in {"400", "405", "415"} or reply.is_reset or reply.grpc_status


@pytest.mark.parametrize("path", ["/", "/x", "/samplerd.v1.SamplerService/", "/samplerd.v1.SamplerService/Sample/"])
def test_an_unknown_path_is_unimplemented(connection, path):
    assert connection.call(GOOD, path=path).grpc_status == 12


@pytest.mark.parametrize("path", ["/%ff", "/%00", "/samplerd.v1.SamplerService/Samp%6ce", "/?%ff", "/ü"])
def test_a_path_that_no_method_has_is_refused(connection, path):
    reply = connection.call(GOOD, path=path)
    assert reply.grpc_status in {7, 12} or reply.is_reset or reply.headers.get(":status") == "400", reply


@ENVOY
def test_a_request_without_a_message_is_refused(connection):
    assert connection.finish(connection.start(end=True)).grpc_status not in {0, None}
    assert connection.call(b"").grpc_status not in {0, None}


@ENVOY
@pytest.mark.parametrize("cut", [1, 4, 5, 6, len(GOOD) - 1])
def test_a_body_that_ends_within_a_message_is_refused(connection, cut):
    assert connection.call(GOOD[:cut]).grpc_status not in {0, None}


def test_a_body_byte_by_byte(connection):
    stream = connection.start()
    for at in range(40):
        assert connection.send(stream, GOOD[at : at + 1])
    connection.send(stream, GOOD[40:])
    connection.send(stream, b"", end=True)
    assert connection.finish(stream).grpc_status == 0


def test_what_is_not_compressed_as_it_says_is_refused(connection):
    # grpcio says INTERNAL.
    assert connection.call(struct.pack(">BI", 1, 3) + b"abc", ("grpc-encoding", "gzip")).grpc_status in {3, 13}
    assert connection.call(struct.pack(">BI", 1, 3) + b"abc").grpc_status == 13


@ENVOY
def test_an_unknown_encoding_is_refused_with_what_is_taken(connection):
    reply = connection.call(struct.pack(">BI", 1, 3) + b"abc", ("grpc-encoding", "no-such"))
    assert reply.grpc_status == 12
    assert reply.headers["grpc-accept-encoding"] == "gzip,deflate,identity"


@pytest.mark.parametrize("timeout", ["", "5", "-1S", "123456789S", "1s"])
def test_a_malformed_timeout_hurts_nobody(connection, timeout):
    # grpcio ignores what it does not understand.
    assert connection.call(GOOD, ("grpc-timeout", timeout)).grpc_status in {0, 13}


def test_a_timeout_is_a_deadline(connection):
    assert connection.call(GOOD, ("grpc-timeout", "99999999H")).grpc_status == 0
    stream = connection.start(("grpc-timeout", "50m"), path="/samplerd.v1.SamplerService/SampleStream")
    assert connection.finish(stream).grpc_status == 4
    stream = connection.start(("grpc-timeout", "50m"))
    connection.send(stream, GOOD[:-1])
    assert connection.finish(stream).grpc_status == 4


def test_metadata_of_any_kind_is_taken(connection):
    extra = [("a-bin", "AP+/"), ("a-bin", "=="), ("b", "x" * 4000), ("c", "1"), ("c", "2"), ("d", '\x7e!"')]
    assert connection.call(GOOD, *extra).grpc_status == 0


@ENVOY
@pytest.mark.parametrize("size", [100_000, 200_000])
def test_headers_beyond_all_bounds_are_refused(daemon, size):
    with Connection(daemon.address) as connection:
        reply = connection.call(GOOD, *[(f"x-{number}", "y" * 1000) for number in range(size // 1000)])
        refused = reply.grpc_status or reply.is_reset or reply.headers.get(":status") == "431"
        assert refused or connection.is_closed
    with Connection(daemon.address) as connection:
        assert draw(connection) == [42]


def test_streams_reset_at_any_moment_leave_nothing(connection, daemon):
    for sent in (0, 3, 5, 20, len(GOOD)):
        for path in ("Sample", "SampleStream"):
            stream = connection.start(path=f"/samplerd.v1.SamplerService/{path}")
            connection.send(stream, GOOD[:sent])
            connection.reset(stream)
    assert draw(connection) == [42]


def test_a_thousand_streams_at_once(connection):
    streams = [connection.start() for _ in range(1000)]
    for stream in streams:
        connection.send(stream, GOOD[:-1])
    for stream in streams:
        connection.send(stream, GOOD[-1:], end=True)
    replies = [connection.finish(stream) for stream in streams]
    assert [reply.grpc_status for reply in replies] == [0] * 1000


@pytest.mark.parametrize("path", ["Sample", "SampleStream"])
def test_a_body_of_a_gibibyte_is_refused_while_it_comes(connection, daemon, path):
    """It was announced with its first bytes; what comes after them is thrown away or stopped, never kept."""
    before = rss_bytes(daemon)
    stream = connection.start(path=f"/samplerd.v1.SamplerService/{path}")
    connection.send(stream, struct.pack(">BI", 0, 1 << 30))
    piece, sent = bytes(1 << 18), 0
    while sent < 1 << 30 and connection.send(stream, piece):
        sent += len(piece)
    assert connection.finish(stream).grpc_status == 8
    assert sent <= 8 * MAX_MESSAGE_BYTES
    assert rss_bytes(daemon) - before < 16 * MAX_MESSAGE_BYTES


def rss_bytes(daemon: Daemon) -> int:
    """Resident memory of the daemon and what it has started."""
    total, pids = 0, [daemon.process.pid]
    while pids:
        process = Path(f"/proc/{pids.pop()}")
        total += next(
            int(line.split()[1]) << 10 for line in (process / "status").read_text().splitlines() if "VmRSS" in line
        )
        pids += map(int, (process / f"task/{process.name}/children").read_text().split())
    return total


def test_many_small_messages_in_one_frame_are_all_answered(connection):
    count = 5000
    stream = connection.start(path="/samplerd.v1.SamplerService/SampleStream")
    connection.send(stream, framed(*[b""] * count), end=True)  # none of them a good request
    reply = connection.finish(stream)
    assert reply.grpc_status == 0
    answers, at = 0, 0
    while at < len(reply.body):
        at += 5 + struct.unpack_from(">I", reply.body, at + 1)[0]
        answers += 1
    assert answers == count
