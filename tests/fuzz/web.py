"""The protocols of the ASGI adapter: each answers a request as gRPC does, and whatever else arrives is answered too.

gRPC with its framing, gRPC-Web in binary and in base64, Connect's unary calls in JSON and in binary, by POST and GET,
and its streams.
"""

from __future__ import annotations

import base64
import gzip
import json
import struct
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote

from google.protobuf.json_format import MessageToJson, Parse
from hypothesis import strategies as st

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.core.errors import Code
from samplerd_server.transport.envoy.connect_status import http_status
from tests.fuzz.served import Answer, Call, server
from tests.fuzz.wire import messages

if TYPE_CHECKING:
    from collections.abc import Callable

_SERVICE = "/samplerd.v1.SamplerService/"
_INFERENCE = "/inference.GRPCInferenceService/"
_LOST = "internal error; the server's log has the cause"


class Outcome(NamedTuple):
    """How a call ended, whatever its protocol."""

    code: str
    text: str
    replies: list[pb.SampleResponse]


def frame(message: bytes, flags: int = 0) -> bytes:
    return struct.pack(">BI", flags, len(message)) + message


def _frames(body: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at < len(body):
        flags, size = struct.unpack_from(">BI", body, at)
        found.append((flags, body[at + 5 : at + 5 + size]))
        at += 5 + size
    assert at == len(body), "the body ends within a frame"
    return found


def _reply(data: bytes) -> pb.SampleResponse:
    """A reply without what differs from call to call."""
    message = pb.SampleResponse.FromString(data)
    message.ClearField("timing")
    return message


def _status(headers: dict[str, str], data: list[bytes]) -> Outcome:
    code = Code(int(headers["grpc-status"])).name.lower()
    return Outcome(code, unquote(headers.get("grpc-message", "")), [_reply(own) for own in data])


def _of_grpc(answer: Answer) -> Outcome:
    return _status(answer.headers, [data for _, data in _frames(answer.body)])


def _of_grpc_web(answer: Answer) -> Outcome:
    body = answer.body
    if "-text" in answer.headers["content-type"]:
        parts = [base64.b64decode(part + "=" * (-len(part) % 4)) for part in body.decode().split("=") if part]
        body = b"".join(parts)
    *data, (flags, trailers) = _frames(body)
    assert flags == 0x80
    lines = dict(line.split(": ", 1) for line in trailers.decode().split("\r\n") if line)
    return _status(lines, [own for _, own in data])


def _name_of(error: dict[str, Any]) -> str:
    return "cancelled" if error["code"] == "canceled" else str(error["code"])


def _message_of(body: bytes, kind: str) -> pb.SampleResponse:
    return _reply(Parse(body.decode(), pb.SampleResponse()).SerializeToString() if kind.endswith("json") else body)


def _of_connect(answer: Answer) -> Outcome:
    if answer.status == 200:
        return Outcome("ok", "", [_message_of(answer.body, answer.headers["content-type"])])
    error = json.loads(answer.body)
    assert answer.status == http_status(Code[_name_of(error).upper()])
    return Outcome(_name_of(error), error["message"], [])


def _of_connect_stream(answer: Answer) -> Outcome:
    *data, (flags, end) = _frames(answer.body)
    assert flags == 2
    error = json.loads(end).get("error")
    replies = [_message_of(own, answer.headers["content-type"]) for _, own in data]
    return Outcome(_name_of(error) if error else "ok", error["message"] if error else "", replies)


def _post(kind: str, body: bytes, method: str = "Sample", *headers: tuple[str, str]) -> Call:
    own = ("content-type", kind), ("te", "trailers"), *headers
    return Call("POST", _SERVICE + method, headers=own, body=body)


def _get(message: str, encoding: str, base64_: str) -> Call:
    query = f"connect=v1&encoding={encoding}&base64={base64_}&message={message}"
    return Call("GET", _SERVICE + "Sample", query=query)


def _as_json(data: bytes) -> bytes:
    return MessageToJson(pb.SampleRequest.FromString(data), indent=None).encode()


_WAYS: dict[str, tuple[Callable[[bytes], Call], Callable[[Answer], Outcome]]] = {
    "gzip": (
        lambda data: _post("application/grpc", frame(gzip.compress(data), 1), "Sample", ("grpc-encoding", "gzip")),
        _of_grpc,
    ),
    "grpc-web": (lambda data: _post("application/grpc-web+proto", frame(data)), _of_grpc_web),
    "grpc-web-text": (lambda data: _post("application/grpc-web-text", base64.b64encode(frame(data))), _of_grpc_web),
    "connect": (lambda data: _post("application/proto", data), _of_connect),
    "connect json": (lambda data: _post("application/json", _as_json(data)), _of_connect),
    "GET": (lambda data: _get(base64.urlsafe_b64encode(data).rstrip(b"=").decode(), "proto", "1"), _of_connect),
    "GET of bytes": (lambda data: _get(quote(data), "proto", "0"), _of_connect),
    "GET of JSON": (lambda data: _get(quote(_as_json(data)), "json", "0"), _of_connect),
}
"""Every way to say the same as gRPC says."""
_STREAMS: dict[str, tuple[Callable[[bytes], Call], Callable[[Answer], Outcome]]] = {
    "grpc": (lambda data: _post("application/grpc", frame(data), "SampleStream"), _of_grpc),
    "connect": (lambda data: _post("application/connect+proto", frame(data), "SampleStream"), _of_connect_stream),
    "connect json": (
        lambda data: _post("application/connect+json", frame(_as_json(data)), "SampleStream"),
        _of_connect_stream,
    ),
}


class Asked(NamedTuple):
    """A request, how it is said, and where its body is cut."""

    data: bytes
    way: str
    stream: str
    cuts: tuple[int, ...]


def _readable(data: bytes) -> bool:
    """Whether JSON can say it: bytes that are a message, with numbers for which it has words."""
    try:
        return pb.SampleRequest.FromString(_again(data)) == pb.SampleRequest.FromString(data)
    except Exception:  # noqa: BLE001  # of protobuf, in many classes
        return False


def _again(data: bytes) -> bytes:
    return Parse(_as_json(data).decode(), pb.SampleRequest()).SerializeToString()


def _seeded(data: bytes) -> bytes:
    return data + pb.SampleRequest(seed=7).SerializeToString()


_cuts = st.lists(st.integers(0, 400), max_size=4).map(tuple)
requests = st.builds(
    Asked,
    messages(pb.SampleRequest.DESCRIPTOR).filter(_readable).map(_seeded),
    st.sampled_from(sorted(_WAYS)),
    st.sampled_from(sorted(_STREAMS)),
    _cuts,
)


def same_answer(asked: Asked) -> None:
    """One request, in gRPC and in another way, and on a stream: the same reply, or the same error."""
    known = server().answer(_post("application/grpc", frame(asked.data))._replace(cuts=asked.cuts))
    expected = _of_grpc(known)
    assert expected.text != _LOST
    call, read = _WAYS[asked.way]
    assert read(server().answer(call(asked.data)._replace(cuts=asked.cuts))) == expected
    call, read = _STREAMS[asked.stream]
    on_stream = read(server().answer(call(asked.data)._replace(cuts=asked.cuts)))
    if expected.code == "ok":
        samples = [sample for own in on_stream.replies for sample in own.samples]
        assert samples == list(expected.replies[0].samples)
        assert not any(own.error.code for own in on_stream.replies)
    elif on_stream.code == "ok":  # a request's error is in its reply, and the stream lives on
        [reply] = on_stream.replies
        assert Code(reply.error.code).name.lower() == expected.code or list(reply.row_errors), (reply, expected)


# ------------------------------------------------------------------------------------------------ whatever arrives
_GRPC_KINDS = ("application/grpc", "application/grpc+proto", "application/grpc; x=y", "Application/GRPC")
_WEB_KINDS = ("application/grpc-web", "application/grpc-web+proto", "application/grpc-web-text")
_CONNECT_KINDS = ("application/json", "application/proto", "application/connect+json", "application/connect+proto")
_KINDS = (*_GRPC_KINDS, *_WEB_KINDS, *_CONNECT_KINDS, "text/plain", "", "application/grpc-web-text+proto")
_METHODS = ("Sample", "SampleStream", "VerifyDraft", "CreateDistribution", "ListDistributions", "GetServerInfo", "No")
_small = pb.SampleRequest(seed=1, tensor=pb.Tensor(vocab_size=2, data=bytes(8))).SerializeToString()
_texts = st.sampled_from(["", "gzip", "deflate", "identity", "br", "1", "0", "10m", "99999999H", "1x", "-1", "v1", "é"])
_json_texts = st.sampled_from(
    [b"{}", b'{"seed":"1"}', b'{"id":"\\ud800"}', b'{"tensor":{"data":"AAAA"}}', b"[1]", b"null", b'{"x":1}', b"{"]
)
_pieces = (
    st.binary(max_size=12)
    | _json_texts
    | st.just(_small)
    | st.builds(frame, st.just(_small) | _json_texts | st.binary(max_size=8), st.sampled_from([0, 0, 1, 2, 0x80, 0xFF]))
    | st.builds(lambda data: frame(gzip.compress(data), 1), st.just(_small) | st.just(bytes(1 << 17)))
    | st.builds(lambda data: base64.b64encode(frame(data)), st.just(_small) | st.binary(max_size=8))
    | st.sampled_from([struct.pack(">BI", 0, size) for size in (1, 5, 1 << 16, (1 << 16) + 1, 2**32 - 1)])
)
_headers = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *("grpc-timeout", "grpc-encoding", "grpc-accept-encoding", "content-encoding", "accept-encoding"),
                *("connect-timeout-ms", "connect-protocol-version", "connect-content-encoding", "x-samplerd-client"),
                *("inference-header-content-length", "origin", "authorization", "x-any-bin", "connect-accept-encoding"),
            ]
        ),
        _texts | st.text(st.characters(max_codepoint=255, exclude_categories=["Cc"]), max_size=6),
    ),
    max_size=3,
)
_queries = st.lists(
    st.tuples(
        st.sampled_from(["connect", "encoding", "message", "base64", "compression", "é"]),
        st.sampled_from(["v1", "json", "proto", "1", "0", "gzip", "{}", "e30", "CAE", "%ff", "%zz", "+", "=", "é", ""])
        | st.binary(max_size=6).map(quote),
    ),
    max_size=5,
).map(lambda pairs: "&".join(f"{name}={value}" for name, value in pairs))


@st.composite
def _any_call(draw: Callable[..., Any]) -> Call:
    kind = draw(st.sampled_from(_KINDS))
    headers = [("content-type", kind)] if kind else []
    if draw(st.integers(0, 9)):
        headers.append(("te", "trailers"))
    path = draw(st.sampled_from((_SERVICE, _SERVICE, _INFERENCE, "/grpc.health.v1.Health/", "/v2/", "")))
    return Call(
        draw(st.sampled_from(["POST", "POST", "POST", "GET", "OPTIONS", "PUT"])),
        path + draw(st.sampled_from((*_METHODS, "ModelInfer", "Check", "models/sampler/infer", "é"))),
        draw(_queries),
        (*headers, *draw(_headers)),
        b"".join(draw(st.lists(_pieces, max_size=3))),
        draw(_cuts),
        leaves=not draw(st.integers(0, 7)),
    )


calls = _any_call()


def some_answer(call: Call) -> None:
    """Whatever arrives gets one whole answer, which is not that the server has failed; or its client has gone."""
    answer = server().answer(call)
    assert answer.is_whole or call.leaves, answer
    assert _LOST.encode() not in answer.body
    assert answer.headers.get("grpc-message") != _LOST
    assert answer.status != 500 or b"internal" in answer.body, answer
