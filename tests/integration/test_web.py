"""What browsers and curl send to the transport envoy, byte by byte, over HTTP/1.1."""

from __future__ import annotations

import base64
import gzip
import json
import threading
import urllib.parse
import zlib

import pytest
from google.rpc import error_details_pb2

from samplerd.v1 import sampler_pb2 as pb
from tests.support.daemon import Daemon
from tests.support.web import frame, frames, post

SAMPLE = "/samplerd.v1.SamplerService/Sample"
SAMPLES = [1, 3, 3, 2, 1]
ASKED = {"values": {"row": [{"values": [1, 2, 0.5, 1.5]}]}, "params": {"temperature": 0.7}, "numSamples": 5, "seed": 42}
MESSAGE = pb.SampleRequest(
    values=pb.Values(row=[pb.Values.Row(values=[1, 2, 0.5, 1.5])]),
    params=pb.SamplingParams(temperature=0.7),
    num_samples=5,
    seed=42,
).SerializeToString()
LIMIT = 1 << 20
ORIGIN = "https://app.example"
TOKEN = "right"


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    with Daemon("--transport", "envoy", "--max-message-bytes", str(LIMIT), "--cors-allow-origin", ORIGIN) as daemon:
        yield daemon


def parts(body):
    """The frames of a body of gRPC-Web by their flags."""
    return dict(frames(body))


def test_json_gives_the_same_ids(web):
    status, headers, body = post(web.address, json.dumps(ASKED))
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(body)["samples"] == SAMPLES


def test_binary_connect(web):
    status, headers, body = post(web.address, MESSAGE, "application/proto", connect_protocol_version="1")
    assert (status, headers["content-type"]) == (200, "application/proto")
    assert list(pb.SampleResponse.FromString(body).samples) == SAMPLES


@pytest.mark.parametrize("kind", ["application/grpc-web", "application/grpc-web+proto"])
def test_grpc_web(web, kind):
    status, headers, body = post(web.address, frame(MESSAGE), kind)
    assert (status, headers["content-type"]) == (200, kind)
    found = parts(body)
    assert list(pb.SampleResponse.FromString(found[0]).samples) == SAMPLES
    assert found[0x80] == b"grpc-status: 0\r\n"


def test_grpc_web_as_text(web):
    status, _, body = post(web.address, base64.b64encode(frame(MESSAGE)), "application/grpc-web-text")
    assert status == 200
    found = parts(base64.b64decode(body))
    assert list(pb.SampleResponse.FromString(found[0]).samples) == SAMPLES
    assert found[0x80] == b"grpc-status: 0\r\n"


def test_an_error_of_grpc_web_is_in_its_trailers(web):
    wrong = pb.SampleRequest.FromString(MESSAGE)
    wrong.params.top_p = 7
    status, _, body = post(web.address, frame(wrong.SerializeToString()), "application/grpc-web")
    assert status == 200
    [(flag, lines)] = parts(body).items()
    assert flag == 0x80
    assert lines.startswith(b"grpc-status: 3\r\n")
    assert b"grpc-message: params.top_p" in lines
    assert b"grpc-status-details-bin: " in lines


WRONG = [
    (json.dumps({**ASKED, "params": {"topP": 7}}), 400, "invalid_argument", "params.top_p"),
    (json.dumps({"nonsense": 1}), 400, "invalid_argument", "nonsense"),
    ("{", 400, "invalid_argument", "JSON"),
    (b"\xff", 400, "invalid_argument", "JSON"),
    (json.dumps({"distribution": "none"}), 404, "not_found", "none"),
    (json.dumps({"sharedMemory": {"key": "x"}}), 501, "unimplemented", "shared_memory"),
    (json.dumps({"values": {"row": [{"values": [1.0] * (LIMIT // 3)}]}}), 429, "resource_exhausted", "--max-message"),
]


@pytest.mark.parametrize(("body", "status", "code", "text"), WRONG, ids=[code for _, _, code, _ in WRONG])
def test_errors_of_json(web, body, status, code, text):
    got, headers, told = post(web.address, body)
    assert (got, headers["content-type"]) == (status, "application/json")
    error = json.loads(told)
    assert error["code"] == code
    assert text in error["message"]


def test_an_error_has_its_details(web):
    _, _, told = post(web.address, json.dumps({**ASKED, "params": {"topP": 7}}))
    reason, field, request = json.loads(told)["details"]
    assert (reason["type"], field["type"]) == ("google.rpc.ErrorInfo", "google.rpc.BadRequest")
    assert request["type"] == "google.rpc.RequestInfo"
    assert reason["debug"] == {"reason": "INVALID_REQUEST", "domain": "samplerd.v1"}
    assert field["debug"]["fieldViolations"][0]["field"] == "params.top_p"
    sent = error_details_pb2.BadRequest.FromString(base64.b64decode(field["value"] + "=="))
    assert sent.field_violations[0].field == "params.top_p"


def test_long_json_is_read_too(web):
    values = [0.0] * 100_000
    values[77_777] = 99.0
    _, _, body = post(web.address, json.dumps({"values": {"row": [{"values": values}]}, "numSamples": 40_000}))
    assert json.loads(body)["samples"] == [77_777] * 40_000


@pytest.mark.parametrize(
    ("body", "kind"),
    [(b"\xff\xff", "application/proto"), (b"!!!!", "application/grpc-web-text"), (b"\0\0", "application/grpc-web")],
)
def test_what_is_no_message(web, body, kind):
    status, _, told = post(web.address, body, kind)
    assert status == 400 or b"grpc-status: " in told or b"grpc-status: " in base64.b64decode(told)


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_compressed_requests(web, encoding, pack):
    for name in (encoding, f" {encoding.upper()} "):
        _, _, body = post(web.address, pack(json.dumps(ASKED).encode()), content_encoding=name)
        assert json.loads(body)["samples"] == SAMPLES
    _, _, body = post(web.address, frame(pack(MESSAGE), 1), "application/grpc-web", grpc_encoding=encoding)
    assert list(pb.SampleResponse.FromString(parts(body)[0]).samples) == SAMPLES


def test_what_is_not_compressed_as_it_says(web):
    status, _, told = post(web.address, json.dumps(ASKED), content_encoding="gzip")
    assert (status, json.loads(told)["code"]) == (400, "invalid_argument")
    _, _, told = post(web.address, frame(MESSAGE, 1), "application/grpc-web", grpc_encoding="gzip")
    assert parts(told)[0x80].startswith(b"grpc-status: 3\r\n")


def test_another_encoding_is_refused_with_what_is_taken(web):
    status, _, told = post(web.address, json.dumps(ASKED), content_encoding="br")
    assert (status, json.loads(told)["code"]) == (501, "unimplemented")
    assert "gzip" in json.loads(told)["message"]
    _, headers, told = post(web.address, frame(MESSAGE, 1), "application/grpc-web", grpc_encoding="br")
    assert parts(told)[0x80].startswith(b"grpc-status: 12\r\n")
    assert "gzip" in headers["grpc-accept-encoding"]


@pytest.mark.parametrize("kind", ["application/json", "application/proto", "application/grpc-web"])
def test_a_bomb_is_refused(web, kind):
    bomb = gzip.compress(bytes(50 << 20))
    if kind == "application/grpc-web":
        _, _, told = post(web.address, frame(bomb, 1), kind, grpc_encoding="gzip")
        assert parts(told)[0x80].startswith(b"grpc-status: 8\r\n")
    else:
        status, _, told = post(web.address, bomb, kind, content_encoding="gzip")
        assert (status, json.loads(told)["code"]) == (429, "resource_exhausted")
        assert str(LIMIT) in json.loads(told)["message"]


def test_long_replies_are_compressed_for_those_who_take_it(web):
    asked = json.dumps({**ASKED, "numSamples": 5000})
    _, headers, plain = post(web.address, asked)
    assert "content-encoding" not in headers
    _, headers, packed = post(web.address, asked, accept_encoding="br, gzip")
    assert headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(packed))["samples"] == json.loads(plain)["samples"]
    assert len(packed) < len(plain) / 2
    _, headers, _ = post(web.address, json.dumps(ASKED), accept_encoding="gzip")
    assert "content-encoding" not in headers  # too short to gain
    message = pb.SampleRequest.FromString(MESSAGE)
    message.num_samples = 5000
    body = frame(message.SerializeToString())
    _, headers, told = post(web.address, body, "application/grpc-web", grpc_accept_encoding="gzip")
    assert headers["grpc-encoding"] == "gzip"
    assert len(pb.SampleResponse.FromString(gzip.decompress(parts(told)[1])).samples) == 5000


# GET.


def get(address, path=SAMPLE, **query):
    return post(address, None, "", f"{path}?{urllib.parse.urlencode(query)}", method="GET")


def urlsafe(message):
    return base64.urlsafe_b64encode(message).rstrip(b"=")


GETS = {
    "json": {"encoding": "json", "message": json.dumps(ASKED)},
    "all of it": {"connect": "v1", "encoding": "json", "message": urlsafe(json.dumps(ASKED).encode()), "base64": "1"},
    "binary": {"encoding": "proto", "message": urlsafe(MESSAGE), "base64": "1"},
    "binary, percent-encoded": {"encoding": "proto", "message": MESSAGE},
    "padded": {"encoding": "proto", "message": base64.urlsafe_b64encode(MESSAGE), "base64": "1"},
    "gzip": {
        "encoding": "json",
        "message": urlsafe(gzip.compress(json.dumps(ASKED).encode())),
        "base64": "1",
        "compression": "gzip",
    },
}


@pytest.mark.parametrize("name", GETS)
def test_get(web, name):
    query = GETS[name]
    status, headers, body = get(web.address, **query)
    assert (status, headers["content-type"]) == (200, f"application/{query['encoding']}")
    assert headers["cache-control"] == "no-store"
    is_json = query["encoding"] == "json"
    samples = json.loads(body)["samples"] if is_json else pb.SampleResponse.FromString(body).samples
    assert list(samples) == SAMPLES


def test_get_without_fields(web):
    status, _, body = get(web.address, "/samplerd.v1.SamplerService/GetServerInfo", encoding="json", message="")
    assert (status, json.loads(body)["code"]) == (400, "invalid_argument")  # nothing is not JSON
    status, _, body = get(web.address, "/samplerd.v1.SamplerService/GetServerInfo", encoding="json", message="{}")
    assert (status, json.loads(body)["device"]) == (200, "cpu")
    status, _, body = get(web.address, "/samplerd.v1.SamplerService/GetServerInfo", encoding="proto", message="")
    assert pb.GetServerInfoResponse.FromString(body).device == "cpu"


BAD_GETS = [
    ({"message": "{}"}, 400, "invalid_argument", "encoding"),
    ({"encoding": "xml", "message": "{}"}, 400, "invalid_argument", "json or proto"),
    ({"encoding": "json"}, 400, "invalid_argument", "message is missing"),
    ({"encoding": "json", "message": "{}", "connect": "v2"}, 400, "invalid_argument", "v1"),
    ({"encoding": "proto", "message": "!", "base64": "1"}, 400, "invalid_argument", "base64url"),
    ({"encoding": "proto", "message": "x", "base64": "1"}, 400, "invalid_argument", "base64url"),
    ({"encoding": "json", "message": "{}", "compression": "br"}, 501, "unimplemented", "gzip"),
    ({"encoding": "json", "message": '{"distribution":"none"}'}, 404, "not_found", "none"),
]


@pytest.mark.parametrize(("query", "status", "code", "text"), BAD_GETS, ids=str)
def test_errors_of_get(web, query, status, code, text):
    got, headers, told = get(web.address, **query)
    assert (got, json.loads(told)["code"]) == (status, code)
    assert text in json.loads(told)["message"]
    assert headers["content-type"] == "application/json"


@pytest.mark.parametrize("rpc", ["CreateDistribution", "DeleteDistribution", "SampleStream", "VerifyDraftStream"])
def test_get_is_for_what_has_no_side_effects(web, rpc):
    path = f"/samplerd.v1.SamplerService/{rpc}"
    status, headers, _ = get(web.address, path, encoding="json", message="{}")
    assert (status, headers["allow"]) == (405, "POST")


def test_other_methods_of_http(web):
    status, headers, _ = post(web.address, None, "", method="PUT")
    assert (status, headers["allow"]) == (405, "GET, POST")
    for path in ("/", "/samplerd.v1.SamplerService/Nothing"):
        assert get(web.address, path)[0] == 404


@pytest.mark.parametrize("kind", ["application/xml", "application/connect+xml", "application/grpc-web+json", ""])
def test_another_content_type_is_refused_with_what_is_taken(web, kind):
    status, headers, _ = post(web.address, b"x", kind)
    assert status == 415
    assert "application/json" in headers["accept-post"]


def test_another_version_of_the_protocol(web):
    status, _, told = post(web.address, json.dumps(ASKED), connect_protocol_version="2")
    assert (status, json.loads(told)["code"]) == (400, "invalid_argument")


@pytest.mark.parametrize("kind", ["application/json", "application/proto", "application/grpc-web"])
def test_unknown_methods(web, kind):
    for path in ("/samplerd.v1.SamplerService/Nothing", "/no.Service/X"):
        status, _, told = post(web.address, b"", kind, path)
        assert status == 501 or b"grpc-status: 12" in told


@pytest.mark.parametrize("kind", ["application/json", "application/proto"])
def test_a_stream_has_content_types_of_its_own(web, kind):
    status, _, told = post(web.address, b"{}", kind, "/samplerd.v1.SamplerService/SampleStream")
    assert (status, json.loads(told)["code"]) == (501, "unimplemented")
    assert "application/connect+" in json.loads(told)["message"]


@pytest.mark.parametrize("text", ["x", "-1", "12345678901"])
def test_a_malformed_deadline(web, text):
    status, _, told = post(web.address, json.dumps(ASKED), connect_timeout_ms=text)
    assert (status, json.loads(told)["code"]) == (400, "invalid_argument")


def test_a_deadline_that_passes(web):
    slow = pb.SampleRequest(num_samples=150_000, replacement=pb.REPLACEMENT_WITHOUT, seed=1)
    slow.tensor.CopyFrom(pb.Tensor(rows=1, vocab_size=250_000, data=bytes(1_000_000)))
    status, _, told = post(web.address, slow.SerializeToString(), "application/proto", connect_timeout_ms="20")
    assert status in {504, 429}  # late, or refused since it would be
    assert json.loads(told)["code"] in {"deadline_exceeded", "resource_exhausted"}


def test_pages_of_one_other_origin_may_call(web):
    status, headers, _ = post(web.address, None, "", method="OPTIONS", origin=ORIGIN)
    assert (status, headers["access-control-allow-origin"]) == (204, ORIGIN)
    assert "content-type" in headers["access-control-allow-headers"]
    status, headers, _ = post(web.address, json.dumps(ASKED), origin=ORIGIN)
    assert (status, headers["access-control-allow-origin"]) == (200, ORIGIN)
    for method in ("OPTIONS", "POST"):
        _, headers, _ = post(web.address, json.dumps(ASKED), method=method, origin="https://evil.example")
        assert "access-control-allow-origin" not in headers


def test_many_at_once_get_their_own(web):
    found = {}

    def one(seed):
        _, _, body = post(web.address, json.dumps({**ASKED, "seed": seed}))
        found[seed] = json.loads(body)

    threads = [threading.Thread(target=one, args=(seed,)) for seed in range(1, 25)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {int(reply["seed"]) for reply in found.values()} == set(range(1, 25))
    assert all(int(reply["seed"]) == seed for seed, reply in found.items())


def test_a_token_is_wanted_here_too(tmp_path):
    (tmp_path / "tokens").write_text(f"{TOKEN}\n")
    (tmp_path / "tokens").chmod(0o600)
    with Daemon("--transport", "envoy", "--token-file", str(tmp_path / "tokens")) as daemon:
        for kind in ("application/json", "application/grpc-web"):
            status, _, told = post(daemon.address, json.dumps(ASKED), kind)
            assert status == 401 or b"grpc-status: 16" in told
        status, _, body = post(daemon.address, json.dumps(ASKED), authorization=f"Bearer {TOKEN}")
        assert (status, json.loads(body)["samples"]) == (200, SAMPLES)
