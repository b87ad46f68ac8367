"""Streams of Connect and gRPC-Web, frame by frame: over HTTP/1.1, where all is sent before the end, and over HTTP/2."""

from __future__ import annotations

import base64
import gzip
import json
import re

import pytest
from google.protobuf.json_format import MessageToJson
from grpc_health.v1 import health_pb2

from samplerd.v1 import sampler_pb2 as pb
from tests.integration.test_web import ASKED, LIMIT, MESSAGE, SAMPLES
from tests.support.daemon import Daemon
from tests.support.http2 import Connection
from tests.support.web import frame, frames, post

STREAM = "/samplerd.v1.SamplerService/SampleStream"
DRAW = "/samplerd.v1.SamplerService/SampleDistribution"
WATCH = "/grpc.health.v1.Health/Watch"
CHUNK = 1000
END, TRAILERS = 2, 0x80
JSON, PROTO, WEB = "application/connect+json", "application/connect+proto", "application/grpc-web"


@pytest.fixture(scope="module")
def web():
    flags = ("--max-message-bytes", str(LIMIT), "--chunk-samples", str(CHUNK))
    with Daemon("--transport", "envoy", *flags) as daemon:
        yield daemon


def asked(number):
    return json.dumps({**ASKED, "id": number}).encode()


def binary(number):
    return pb.SampleRequest.FromString(MESSAGE).SerializeToString() + pb.SampleRequest(id=number).SerializeToString()


def test_json(web):
    body = b"".join(frame(asked(number)) for number in range(1, 6))
    status, headers, told = post(web.address, body, JSON, STREAM)
    assert (status, headers["content-type"]) == (200, JSON)
    *replies, (flags, end) = frames(told)
    assert (flags, json.loads(end)) == (END, {})
    assert {json.loads(reply)["id"] for _, reply in replies} == {"1", "2", "3", "4", "5"}
    assert all(json.loads(reply)["samples"] == SAMPLES for _, reply in replies)


@pytest.mark.parametrize(("kind", "last"), [(PROTO, (END, b"{}")), (WEB, (TRAILERS, b"grpc-status: 0\r\n"))])
def test_binary(web, kind, last):
    body = b"".join(frame(binary(number)) for number in range(1, 6))
    status, headers, told = post(web.address, body, kind, STREAM)
    assert (status, headers["content-type"]) == (200, kind)
    *replies, end = frames(told)
    assert end == last
    found = [pb.SampleResponse.FromString(reply) for _, reply in replies]
    assert {reply.id for reply in found} == {1, 2, 3, 4, 5}
    assert all(list(reply.samples) == SAMPLES for reply in found)


def test_grpc_web_as_text(web):
    body = base64.b64encode(frame(binary(1)))
    _, headers, told = post(web.address, body, "application/grpc-web-text", STREAM)
    assert headers["content-type"] == "application/grpc-web-text"
    pieces = [piece for piece in told.replace(b"=", b"= ").split() if piece]
    joined = b"".join(base64.b64decode(piece + b"==") for piece in pieces) if b"=" in told else base64.b64decode(told)
    (_, reply), (flags, _) = frames(joined)
    assert list(pb.SampleResponse.FromString(reply).samples) == SAMPLES
    assert flags == TRAILERS


@pytest.mark.parametrize("kind", [JSON, PROTO, WEB])
def test_a_large_draw_comes_in_chunks(web, kind):
    large = pb.SampleRequest.FromString(MESSAGE)
    large.num_samples = 10 * CHUNK
    message = json.dumps({**ASKED, "numSamples": 10 * CHUNK}).encode() if kind == JSON else large.SerializeToString()
    _, _, told = post(web.address, frame(message), kind, STREAM)
    *replies, _ = frames(told)
    assert len(replies) == 10
    sizes = [
        len(json.loads(reply)["samples"] if kind == JSON else pb.SampleResponse.FromString(reply).samples)
        for _, reply in replies
    ]
    assert sizes == [CHUNK] * 10


@pytest.fixture(scope="module")
def words(web):
    """The name of a distribution."""
    upload = {"name": "words", "values": ASKED["values"], "params": ASKED["params"]}
    status, _, told = post(web.address, json.dumps(upload), path="/samplerd.v1.SamplerService/CreateDistribution")
    assert status == 200, told
    return "words"


def draw(kind, **fields):
    """A request for a draw from the distribution, as a message of this kind of body."""
    request = pb.SampleRequest(**{"distribution": "words", "seed": 42, **fields})
    return MessageToJson(request).encode() if kind == JSON else request.SerializeToString()


def samples_of(kind, reply):
    return json.loads(reply)["samples"] if kind == JSON else list(pb.SampleResponse.FromString(reply).samples)


@pytest.mark.parametrize("kind", [JSON, PROTO, WEB])
def test_a_distribution_is_drawn_from_in_chunks(web, words, kind):
    """One message and many replies: what a browser can do over HTTP/1.1."""
    status, headers, told = post(web.address, frame(draw(kind, num_samples=3 * CHUNK + 5)), kind, DRAW)
    assert (status, headers["content-type"]) == (200, kind)
    *replies, end = frames(told)
    assert end == ((TRAILERS, b"grpc-status: 0\r\n") if kind == WEB else (END, b"{}"))
    chunks = [samples_of(kind, reply) for _, reply in replies]
    assert [len(chunk) for chunk in chunks] == [CHUNK, CHUNK, CHUNK, 5]
    assert chunks[0][: len(SAMPLES)] == SAMPLES
    path = "/samplerd.v1.SamplerService/Sample"
    _, _, whole = post(web.address, draw(JSON, num_samples=3 * CHUNK + 5), path=path)
    assert [sampled for chunk in chunks for sampled in chunk] == samples_of(JSON, whole)


def test_a_distribution_is_drawn_from_as_text(web, words):
    body = base64.b64encode(frame(draw(WEB, num_samples=2 * CHUNK)))
    _, _, told = post(web.address, body, "application/grpc-web-text", DRAW)
    joined = b"".join(base64.b64decode(piece) for piece in re.findall(rb"[^=]+=*", told))
    assert [len(samples_of(WEB, reply)) for _, reply in frames(joined)[:-1]] == [CHUNK, CHUNK]


@pytest.mark.parametrize("kind", [JSON, PROTO, WEB])
@pytest.mark.parametrize(
    ("fields", "code"), [({"distribution": "verbs"}, "not_found"), ({"num_samples": 2**32 - 1}, None)], ids=str
)
def test_why_nothing_is_drawn_ends_the_stream(web, words, kind, fields, code):
    timeout = ("grpc-timeout", "300m") if kind == WEB else ("connect-timeout-ms", "300")
    with Connection(web.address) as connection:
        stream = connection.start(timeout, path=DRAW, content_type=kind, te=None)
        connection.send(stream, frame(draw(kind, **fields)), end=True)
        reply = connection.finish(stream)
    late = "deadline_exceeded"
    assert error_of(kind, reply.body) == (CODES[code or late] if kind == WEB else code or late)


def test_a_distribution_is_not_drawn_from_by_a_unary_call(web, words):
    status, _, told = post(web.address, draw(JSON), path=DRAW)
    assert (status, json.loads(told)["code"]) == (501, "unimplemented")


@pytest.mark.parametrize("kind", [JSON, PROTO, WEB])
def test_compressed(web, kind):
    message = asked(1) if kind == JSON else binary(1)
    packed = frame(gzip.compress(message), 1) + frame(message)
    prefix = "grpc" if kind == WEB else "connect_content"
    names = {f"{prefix}_encoding": "gzip", f"{prefix.removesuffix('_content')}_accept_encoding": "gzip"}
    _, headers, told = post(web.address, packed, kind, STREAM, **names)
    *replies, _ = frames(told)
    assert len(replies) == 2
    assert headers[f"{prefix}_encoding".replace("_", "-")] == "gzip"
    big = json.dumps({**ASKED, "numSamples": CHUNK}).encode()
    if kind != JSON:
        asks = pb.SampleRequest.FromString(MESSAGE)
        asks.num_samples = 3 * CHUNK
        big = asks.SerializeToString()
    _, _, told = post(web.address, frame(big), kind, STREAM, **names)
    for flags, reply in frames(told)[:-1]:
        assert (flags == 1) == (reply[:2] == b"\x1f\x8b")


def error_of(kind, told):
    """The code of the last frame."""
    flags, end = frames(told)[-1]
    if kind == WEB:
        assert flags == TRAILERS
        return int(end.split(b"\r\n")[0].removeprefix(b"grpc-status: "))
    assert flags == END
    return json.loads(end)["error"]["code"]


CODES = {
    "invalid_argument": 3,
    "deadline_exceeded": 4,
    "not_found": 5,
    "resource_exhausted": 8,
    "unimplemented": 12,
    "internal": 13,
}


@pytest.mark.parametrize("kind", [JSON, PROTO, WEB])
@pytest.mark.parametrize(
    ("body", "encoding", "code"),
    [
        (frame(gzip.compress(bytes(50 << 20)), 1), "gzip", "resource_exhausted"),
        ((0).to_bytes(1, "big") + (LIMIT + 1).to_bytes(4, "big"), None, "resource_exhausted"),
        (frame(b"x", 1), "gzip", "invalid_argument"),
        (frame(b"x", 1), "br", "unimplemented"),
        (frame(b"x", 1), None, "internal"),
        (frame(b"x", 4), "gzip", "internal"),
        (frame(b"x")[:-1], None, "internal"),
    ],
    ids=["bomb", "too large", "not gzip", "another encoding", "encoding not named", "unknown flags", "cut"],
)
def test_what_ends_a_stream(web, kind, body, encoding, code):
    name = "grpc_encoding" if kind == WEB else "connect_content_encoding"
    status, headers, told = post(web.address, body, kind, STREAM, **({name: encoding} if encoding else {}))
    assert (status, headers["content-type"]) == (200, kind)
    assert error_of(kind, told) == (CODES[code] if kind == WEB else code)


def test_a_request_that_fails_does_not_end_the_stream(web):
    wrong = json.dumps({**ASKED, "id": 1, "params": {"topP": 7}}).encode()
    _, _, told = post(web.address, frame(wrong) + frame(asked(2)), JSON, STREAM)
    replies = {json.loads(reply)["id"]: json.loads(reply) for _, reply in frames(told)[:-1]}
    assert "params.top_p" in replies["1"]["error"]["message"]
    assert replies["2"]["samples"] == SAMPLES


def test_json_that_is_none_ends_it(web):
    _, _, told = post(web.address, frame(b"{"), JSON, STREAM)
    assert error_of(JSON, told) == "invalid_argument"


@pytest.mark.parametrize("kind", [JSON, PROTO])
def test_a_unary_method_is_no_stream(web, kind):
    _, _, told = post(web.address, frame(b"{}"), kind, "/samplerd.v1.SamplerService/Sample")
    assert error_of(kind, told) == "unimplemented"
    _, _, told = post(web.address, frame(b"{}"), kind, "/samplerd.v1.SamplerService/Nothing")
    assert error_of(kind, told) == "unimplemented"


@pytest.mark.parametrize("kind", [JSON, PROTO, WEB])
def test_both_ways_at_once_over_http2(web, kind):
    message = asked if kind == JSON else binary
    with Connection(web.address) as connection:
        stream = connection.start(path=STREAM, content_type=kind, te=None)
        reply = connection.replies[stream]
        for number in range(1, 4):
            assert connection.send(stream, frame(message(number)))
            while len(frames(reply.body)) < number:
                connection.read()
        connection.send(stream, b"", end=True)
        connection.finish(stream)
        assert [flags for flags, _ in frames(reply.body)] == [0, 0, 0, TRAILERS if kind == WEB else END]


@pytest.mark.parametrize("kind", [JSON, PROTO, WEB])
def test_a_server_stream_and_its_deadline(web, kind):
    """Watch of the standard health service answers at once and then whenever health changes, which it does not here."""
    message = b'{"service":""}' if kind == JSON else health_pb2.HealthCheckRequest().SerializeToString()
    timeout = ("grpc-timeout", "200m") if kind == WEB else ("connect-timeout-ms", "200")
    with Connection(web.address) as connection:
        stream = connection.start(timeout, path=WATCH, content_type=kind, te=None)
        connection.send(stream, frame(message), end=True)
        reply = connection.finish(stream)
    (_, first), _ = frames(reply.body)
    status = json.loads(first)["status"] if kind == JSON else health_pb2.HealthCheckResponse.FromString(first).status
    assert status in {"SERVING", health_pb2.HealthCheckResponse.SERVING}
    assert error_of(kind, reply.body) == (4 if kind == WEB else "deadline_exceeded")


def test_a_malformed_deadline_of_a_stream(web):
    _, _, told = post(web.address, frame(asked(1)), JSON, STREAM, connect_timeout_ms="soon")
    assert error_of(JSON, told) == "invalid_argument"
