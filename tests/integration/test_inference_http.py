"""The Open Inference Protocol over HTTP: beside gRPC on envoy, on an address of its own on grpcio."""

from __future__ import annotations

import asyncio
import base64
import functools
import gzip
import http.client
import importlib
import json
import re
import shutil
import socket
import ssl
import zlib
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.core.request import RNG
from tests.integration.test_start import run
from tests.support.asgi import framed
from tests.support.daemon import Daemon
from tests.support.served import WAIT_S, Served, ServedByEnvoy, connect, stub
from tests.support.tools import need_http

pytestmark = pytest.mark.asyncio(loop_scope="session")

INFER = "/v2/models/sampler/infer"
LENGTH = "Inference-Header-Content-Length"
MAX_MESSAGE_BYTES = 4 << 20
TRANSPORTS = pytest.mark.parametrize("transport", ["grpcio", "envoy"])


def flags_for(transport: str) -> tuple[str, ...]:
    if transport == "envoy":
        return ("--transport", transport)
    need_http()
    return ("--transport", transport, "--http-listen", "127.0.0.1:0")


@pytest.fixture(scope="module", params=["grpcio", "envoy"])
def served(request):
    with Daemon(*flags_for(request.param), "--max-message-bytes", str(MAX_MESSAGE_BYTES)) as daemon:
        yield daemon


@pytest.fixture(params=["grpcio", "envoy"])
def hold(request) -> Any:
    """A server around a held sampler, with HTTP: ``async with hold() as (served, address):``."""
    if request.param == "envoy":
        return functools.partial(Held, functools.partial(ServedByEnvoy, request.getfixturevalue("envoy")))
    need_http()
    return functools.partial(Held, Served)


class Held:
    def __init__(self, make: Any, **config: dict[str, Any]) -> None:
        if make is Served:
            config["transport"] = {"http_listen": "127.0.0.1:0", **config.get("transport", {})}
        self._served = make(**config)

    async def __aenter__(self) -> tuple[Any, str]:
        served = await self._served.__aenter__()
        return served, served.app.http.address if type(served) is Served else served.address

    async def __aexit__(self, *error: object) -> None:
        await self._served.__aexit__(*error)


class Reply:
    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body

    @property
    def json(self) -> Any:
        length = self.headers.get(LENGTH)
        return json.loads(self.body[: int(length)] if length else self.body)

    @property
    def error(self) -> str:
        return self.json["error"]

    def output(self, name: str) -> Any:
        [own] = [output for output in self.json["outputs"] if output["name"] == name]
        return own["data"]


def exchange(address: str, method: str, path: str, body: Any, headers: dict[str, str], context: Any) -> Reply:
    host, _, port = address.rpartition(":")
    if context is None:
        connection: http.client.HTTPConnection = http.client.HTTPConnection(host, int(port), timeout=WAIT_S)
    else:
        connection = http.client.HTTPSConnection(host, int(port), timeout=WAIT_S, context=context)
    try:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection.request(method, path, data, headers)
        reply = connection.getresponse()
        return Reply(reply.status, reply.headers, reply.read())
    finally:
        connection.close()


async def get(address: str, path: str, context: Any = None, **headers: str) -> Reply:
    return await asyncio.to_thread(exchange, address, "GET", path, None, headers, context)


async def post(address: str, path: str, body: Any = None, context: Any = None, **headers: str) -> Reply:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return await asyncio.to_thread(exchange, address, "POST", path, body, sent, context)


def ask(rows: Any = (1.0, 2.0, 0.5, 1.5), outputs: Any = None, **parameters: Any) -> dict[str, Any]:
    array = np.atleast_2d(np.asarray(rows, np.float32))
    own = {"name": "logits", "shape": array.shape, "datatype": "FP32", "data": array.tolist()}
    asked: dict[str, Any] = {"inputs": [own], "parameters": parameters}
    return asked if outputs is None else {**asked, "outputs": [{"name": name} for name in outputs]}


async def test_the_same_seed_gives_the_same_ids_as_natively(served):
    rows = np.random.default_rng(3).normal(0, 2, (5, 300)).astype(np.float32)
    options = {"temperature": 0.8, "top_k": 40, "top_p": 0.9, "min_p": 0.01}
    async with connect(served.address) as channel:
        request = pb.SampleRequest(
            tensor=pb.Tensor(rows=5, vocab_size=300, data=rows.tobytes()),
            params=pb.SamplingParams(**options),
            seed=2**64 - 1,
            num_samples=7,
        )
        request.outputs.logprobs.append(pb.LOGPROB_KIND_PROCESSED)
        native = await stub(channel).Sample(request)
    asked = ask(rows, seed=2**64 - 1, num_samples=7, **options)
    reply = await post(served.http_address, INFER, {"id": "one", **asked})
    assert reply.status == 200
    assert reply.output("samples") == list(native.samples)
    assert reply.output("logprobs") == pytest.approx(list(native.logprobs[0].samples))
    assert (reply.json["id"], reply.json["parameters"]) == ("one", {"rng": RNG, "seed": 2**64 - 1})
    shape = {"name": "logits", "shape": [5, 300], "datatype": "FP32", "parameters": {"binary_data_size": rows.nbytes}}
    head = json.dumps({**asked, "inputs": [shape], "outputs": [{"name": "samples"}]}).encode()
    headers = {LENGTH.replace("-", "_"): str(len(head))}
    reply = await post(served.http_address, f"{INFER}?ignored=1", head + rows.tobytes(), **headers)
    assert reply.output("samples") == list(native.samples)
    binary = {**asked, "parameters": {**asked["parameters"], "binary_data_output": True}}
    reply = await post(served.http_address, INFER, binary)
    assert reply.headers["content-type"] == "application/octet-stream"
    drawn = reply.body[int(reply.headers[LENGTH]) :]
    assert np.frombuffer(drawn[: 5 * 7 * 4], "<i4").tolist() == list(native.samples)


async def test_parameters_of_each_row_are_tensors(served):
    asked = ask(np.eye(3, 8) * 50, ["samples"])
    asked["inputs"].append({"name": "temperature", "shape": [3, 1], "datatype": "FP64", "data": [0, 1, 2]})
    asked["inputs"].append({"name": "seed", "shape": [3], "datatype": "UINT64", "data": [1, 2, 2**64 - 1]})
    reply = await post(served.http_address, INFER, asked)
    assert reply.output("samples") == [0, 1, 2]
    assert "seed" not in reply.json["parameters"]


async def test_a_row_that_fails_alone_is_told(served):
    reply = await post(served.http_address, INFER, ask([[1, 2], [np.nan, 1]], temperature=0.0))
    assert (reply.output("samples"), reply.output("logprobs")[1]) == ([1, -1], None)
    assert "NAN" in reply.json["parameters"]["row_errors"]
    reply = await post(served.http_address, INFER, ask([np.nan, 1]))
    assert reply.status == 400
    assert "NaN" in reply.error


@pytest.mark.parametrize(
    ("path", "status", "known"),
    [
        ("/v2", 200, "samplerd"),
        ("/v2/health/live", 200, "true"),
        ("/v2/health/ready", 200, "true"),
        ("/v2/models/sampler", 200, "logprobs"),
        ("/v2/models/sampler/versions/1/ready", 200, "true"),
        ("/v2/models/sampler/ready", 200, "true"),
        ("/v2/models/other/ready", 503, "false"),
        ("/v2/models/sampler/config", 200, "TYPE_FP32"),
        ("/v2/models/sampler/stats", 200, "compute_infer"),
        ("/v2/models/stats", 200, "compute_infer"),
        ("/v2/models/other", 404, "other"),
        ("/v2/models/sampler/versions/2", 404, "2"),
        ("/v2/logging", 200, "log_info"),
        ("/v2/trace/setting", 200, "OFF"),
        ("/v2/systemsharedmemory/status", 200, "[]"),
        ("/v2/cudasharedmemory/region/mine/status", 404, "mine"),
        ("/v2/nothing", 404, "nothing"),
        (INFER, 405, "POST"),
    ],
)
async def test_what_can_be_read(served, path, status, known):
    reply = await get(served.http_address, path)
    assert (reply.status, reply.headers["content-type"]) == (status, "application/json")
    assert known in reply.body.decode()
    assert reply.json is not None
    assert int(reply.headers["content-length"]) == len(reply.body)


async def test_what_is_wrong_is_named(served):
    for body, status, text in (
        (b"{", 400, "not JSON"),
        (b"", 400, "not JSON"),
        (ask(top_p=7.0), 400, "top_p"),
        (ask(nonsense=1), 400, "nonsense"),
        (ask(outputs=["nonsense"]), 400, "nonsense"),
    ):
        reply = await post(served.http_address, INFER, body)
        assert reply.status == status
        assert text in reply.error
    assert (await post(served.http_address, "/v2/repository/models/x/load")).status == 501
    reply = await post(served.http_address, "/v2/logging", {"log_info": False})
    assert reply.status == 501
    assert "--log-level" in reply.error
    reply = await get(served.http_address, INFER)
    assert reply.headers["allow"] == "POST"


async def test_names_beyond_bounds_come_back_cut(served):
    long = "n" * 100_000
    many = {"name": "logits", "datatype": "FP32", "shape": [1] * 10_000, "data": [1.0]}
    for body in (
        ask(outputs=[long]),
        ask(**{long: 1}),
        ask(temperature=long),
        {"inputs": [{**many, "name": long, "shape": [1, 1]}]},
        {"inputs": [{**many, "datatype": long}]},
        {"inputs": [many]},
        {"inputs": [{**many, "shape": [1, 1], "parameters": {long: 1}}]},
        f'{{"{long}'.encode(),
    ):
        reply = await post(served.http_address, INFER, body)
        assert 400 <= reply.status <= 501
        assert reply.status != 500
        assert len(reply.body) < 1_000, reply.body[:2_000]
    # A path is as long as the transport takes: names in it are cut too.
    for path in (f"/v2/models/{long[:4_000]}", f"/v2/{long[:4_000]}"):
        reply = await get(served.http_address, path)
        assert (reply.status, len(reply.body) < 1_000) == (404, True)


async def test_compressed_bodies_both_ways(served):
    body = json.dumps(ask(np.zeros((40, 50)), ["samples"], seed=1, num_samples=50)).encode()
    plain = await post(served.http_address, INFER, body)
    for encoding, squeezed in (("gzip", gzip.compress(body)), ("deflate", zlib.compress(body))):
        reply = await post(served.http_address, INFER, squeezed, content_encoding=encoding, accept_encoding="br, gzip")
        assert reply.headers["content-encoding"] == "gzip"
        assert reply.body == plain.body
    assert "content-encoding" not in plain.headers
    reply = await post(served.http_address, INFER, body, content_encoding="br")
    assert (reply.status, "br" in reply.error) == (501, True)
    reply = await post(served.http_address, INFER, body, content_encoding="gzip")
    assert (reply.status, "not gzip" in reply.error) == (400, True)


async def test_bodies_are_bounded_before_and_after_they_are_inflated(served):
    bomb = gzip.compress(bytes(256 << 20))
    assert len(bomb) < MAX_MESSAGE_BYTES
    for body, headers in ((bomb, {"content_encoding": "gzip"}), (bytes(MAX_MESSAGE_BYTES + 1), {})):
        reply = await post(served.http_address, INFER, body, **headers)
        assert reply.status == 413
        assert "--max-message-bytes" in reply.error
    assert (await get(served.http_address, "/v2/health/live")).status == 200


async def test_connect_is_there_too_and_grpc_is_not(served):
    path = "/samplerd.v1.SamplerService/GetServerInfo"
    reply = await post(served.http_address, path, {}, content_type="application/json")
    assert (reply.status, reply.json["rng"]) == (200, RNG)
    rows = {"rows": 1, "vocabSize": 4, "data": base64.b64encode(np.array([1, 9, 2, 3], "<f4").tobytes()).decode()}
    asked = b"".join(
        framed(json.dumps({"id": n, "tensor": rows, "params": {"temperature": 0}}).encode()) for n in (1, 2)
    )
    stream = "/samplerd.v1.SamplerService/SampleStream"
    reply = await post(served.http_address, stream, asked, content_type="application/connect+json")
    drawn = [json.loads(text) for text in re.findall(rb"\{\"id\".*?\"final\": true\}", reply.body)]
    assert [(own["id"], own["samples"]) for own in drawn] == [("1", [1]), ("2", [1])]
    if served.transport == "grpcio":
        reply = await post(served.http_address, path, b"", content_type="application/grpc", te="trailers")
        assert (reply.status, b"HTTP/2" in reply.body) == (505, True)


async def test_pages_of_an_allowed_origin_may_call():
    need_http()
    origin = "https://app.example"
    async with Held(Served, envoy={"cors_allow_origin": (origin,)}) as (_, address):
        asked = {"origin": origin, "access-control-request-headers": LENGTH.lower()}
        reply = await asyncio.to_thread(exchange, address, "OPTIONS", INFER, None, asked, None)
        assert LENGTH.lower() in reply.headers["access-control-allow-headers"]
        reply = await get(address, "/v2", origin=origin)
        assert reply.headers["access-control-allow-origin"] == origin
        assert LENGTH.lower() in reply.headers["access-control-expose-headers"]
        assert "access-control-allow-origin" not in (await get(address, "/v2", origin="https://other")).headers


async def test_calls_are_counted_as_those_of_grpc(served):
    name = 'samplerd_requests_total{code="OK",rpc="ModelInfer"}'
    before = (await asyncio.to_thread(served.metrics)).get(name, 0)
    await post(served.http_address, INFER, ask())
    assert (await asyncio.to_thread(served.metrics))[name] == before + 1


# A server that is held back.


async def test_it_waits_its_turn_and_readiness_ends_with_the_drain(hold):
    async with hold() as (served, address):
        waiting = asyncio.create_task(post(address, INFER, ask(outputs=["samples"])))
        await served.entered()
        second = asyncio.create_task(post(address, INFER, ask(outputs=["samples"])))  # is fetched beside the first
        await served.until(lambda: served.app.batcher.in_flight == 2)
        # Its deadline passes while the device is held, and it is answered then.
        late = await post(address, INFER, ask(outputs=["samples"], timeout=1000))
        assert late.status == 504
        served.app.handlers.service.drain()
        assert (await get(address, "/v2/health/ready")).status == 503
        assert (await get(address, "/v2/models/sampler/ready")).status == 503
        assert (await get(address, "/v2/health/live")).status == 200
        refused = await post(address, INFER, ask(outputs=["samples"]))
        assert refused.status == 503
        served.sampler.open()
        assert [(await one).status for one in (waiting, second)] == [200] * 2


async def test_a_full_queue_says_when_to_come_again(hold):
    async with hold(admission={"queue_rows": 1}) as (served, address):
        first = asyncio.create_task(post(address, INFER, ask(outputs=["samples"])))
        await served.entered()
        second = asyncio.create_task(post(address, INFER, ask(outputs=["samples"])))  # is fetched beside the first
        await served.until(lambda: served.app.batcher.in_flight == 2)
        third = asyncio.create_task(post(address, INFER, ask(outputs=["samples"])))
        await served.until(lambda: len(served.app.queue) == 1)
        refused = await post(address, INFER, ask(outputs=["samples"]))
        assert refused.status == 429
        assert int(refused.headers["retry-after"]) >= 1
        served.sampler.open()
        assert [(await one).status for one in (first, second, third)] == [200] * 3


async def test_a_client_that_leaves_is_not_waited_for(hold):
    async with hold() as (served, address):
        first = asyncio.create_task(post(address, INFER, ask(outputs=["samples"])))
        await served.entered()
        second = asyncio.create_task(post(address, INFER, ask(outputs=["samples"])))
        await served.until(lambda: served.app.batcher.in_flight == 2)
        host, _, port = address.rpartition(":")
        leaving = socket.create_connection((host, int(port)), WAIT_S)
        body = json.dumps(ask(outputs=["samples"])).encode()
        leaving.sendall(f"POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await served.until(lambda: len(served.app.queue) == 1)
        leaving.close()
        await served.until(lambda: served.app.observer.in_flight == 2)
        served.sampler.open()
        assert [(await one).status for one in (first, second)] == [200] * 2


async def test_a_connection_that_asks_nothing_is_closed(monkeypatch):
    need_http()
    bounds = importlib.import_module("samplerd_server.transport.http.connection")
    monkeypatch.setattr(bounds, "_HEADER_S", 0.2)
    monkeypatch.setattr(bounds, "MAX_CONNECTIONS", 2)
    async with Held(Served) as (_, address):
        host, _, port = address.rpartition(":")
        silent, slow = [await asyncio.open_connection(host, int(port)) for _ in range(2)]
        slow[1].write(b"GET /v2 HTTP/1.1\r\nHo")
        third = await asyncio.open_connection(host, int(port))
        for reader, _ in (third, silent, slow):
            with suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), WAIT_S) == b""
        for _, writer in (silent, slow, third):
            writer.close()
        assert (await get(address, "/v2/health/live")).status == 200


# Credentials.


@TRANSPORTS
async def test_tokens_but_for_health(transport, tmp_path):
    file = tmp_path / "tokens"
    file.write_text("a-token\n")
    daemon = await asyncio.to_thread(Daemon(*flags_for(transport), "--token-file", str(file)).__enter__)
    address = daemon.http_address
    for path in ("/v2/health/live", "/v2/health/ready"):
        assert (await get(address, path)).status == 200
    for refused in (await get(address, "/v2"), await post(address, INFER, ask()), await get(address, "/v2/models/a")):
        assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert "token" in refused.error
    reply = await post(address, INFER, ask(outputs=["samples"], temperature=0.0), authorization="Bearer a-token")
    assert reply.output("samples") == [1]
    await asyncio.to_thread(daemon.__exit__)


async def test_tls_with_certificates_of_clients_and_renewal(authority, other, tmp_path):
    pair, new = authority.sign("server"), other.sign("server")
    for own in (pair.certificate, pair.key):
        shutil.copy(own, tmp_path / own.name)
    certificate, key = tmp_path / pair.certificate.name, tmp_path / pair.key.name
    flags = ("--tls-cert", str(certificate), "--tls-key", str(key), "--tls-client-ca", str(authority.certificate))
    daemon = await asyncio.to_thread(Daemon(*flags_for("grpcio"), *flags).__enter__)
    address = daemon.http_address
    client = authority.sign("client")

    def context(trusted: Any, own: Any = client) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=str(trusted.certificate))
        if own is not None:
            made.load_cert_chain(own.certificate, own.key)
        return made

    assert (await get(address, "/v2/health/live", context(authority))).status == 200
    for refused in (context(authority, None), context(authority, other.sign("stranger")), context(other)):
        with pytest.raises(OSError):  # noqa: PT011  # of TLS or of the connection, by what comes first
            await get(address, "/v2/health/live", refused)
    with pytest.raises((OSError, http.client.HTTPException)):
        await get(address, "/v2/health/live")
    for path, fresh in ((key, new.key), (certificate, new.certificate)):
        shutil.copy(fresh, tmp_path / "new")
        (tmp_path / "new").rename(path)
    assert (await get(address, "/v2/health/live", context(other))).status == 200
    with pytest.raises(ssl.SSLError):
        await get(address, "/v2/health/live", context(authority))
    with pytest.raises(OSError):  # noqa: PT011
        await get(address, "/v2/health/live", context(other, None))
    await asyncio.to_thread(daemon.__exit__)


async def test_a_taken_address_is_named_before_anything_slow_begins():
    need_http()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for flags in ((), ("--workers", "2")):
            code, text = await asyncio.to_thread(run, f"--http-listen={address}", *flags)
            assert (code, text) == (2, f"samplerd: cannot listen on {address}: is the port taken?\n")


@pytest.mark.slow
async def test_workers_share_the_address():
    daemon = await asyncio.to_thread(Daemon(*flags_for("grpcio"), "--workers", "2").__enter__)
    asked = ask(seed=5, num_samples=9, outputs=["samples"])
    replies = await asyncio.gather(*(post(daemon.http_address, INFER, asked) for _ in range(16)))
    assert {tuple(reply.output("samples")) for reply in replies} == {tuple(replies[0].output("samples"))}
    await asyncio.to_thread(daemon.__exit__)
