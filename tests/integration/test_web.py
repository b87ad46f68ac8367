"""What browsers and curl send to the transport envoy, byte by byte, over HTTP/1.1."""

from __future__ import annotations

import base64
import http.client
import json
import threading

import pytest

from samplerd.v1 import sampler_pb2 as pb
from tests.support.daemon import Daemon

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


def post(address, body, content_type="application/json", path=SAMPLE, method="POST", **headers):
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        own = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, {"content-type": content_type, **own})
        reply = connection.getresponse()
        return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()
    finally:
        connection.close()


def frame(message, flag=0):
    return bytes([flag]) + len(message).to_bytes(4, "big") + message


def parts(body):
    """The frames of a body of gRPC-Web: flag -> content."""
    found = {}
    while body:
        size = int.from_bytes(body[1:5], "big")
        found[body[0]] = body[5 : 5 + size]
        body = body[5 + size :]
    return found


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
    kinds = [detail["type"] for detail in json.loads(told)["details"]]
    assert kinds == ["google.rpc.ErrorInfo", "google.rpc.BadRequest"]


@pytest.mark.parametrize(
    ("body", "kind"),
    [(b"\xff\xff", "application/proto"), (b"!!!!", "application/grpc-web-text"), (b"\0\0", "application/grpc-web")],
)
def test_what_is_no_message(web, body, kind):
    status, _, told = post(web.address, body, kind)
    assert status == 400 or b"grpc-status: " in told or b"grpc-status: " in base64.b64decode(told)


def test_compressed_messages_are_refused(web):
    status, _, told = post(web.address, json.dumps(ASKED), content_encoding="gzip")
    assert (status, json.loads(told)["code"]) == (501, "unimplemented")


@pytest.mark.parametrize("kind", ["application/json", "application/proto", "application/grpc-web"])
def test_streams_and_unknown_methods(web, kind):
    for path in ("/samplerd.v1.SamplerService/SampleStream", "/samplerd.v1.SamplerService/Nothing", "/no.Service/X"):
        status, _, told = post(web.address, b"", kind, path)
        assert status == 501 or b"grpc-status: 12" in told


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
