"""Who may call what: named tokens, certificates, the policy, and what is counted and logged, over both transports."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import ssl
import time
import urllib.error
import urllib.request
from contextlib import suppress

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from samplerd.oip import grpc_service_pb2 as oip
from samplerd.v1 import sampler_pb2 as pb
from tests.support import web
from tests.support.certificates import tls_flags
from tests.support.daemon import Daemon
from tests.support.requests import one_hot, tensor
from tests.support.served import WAIT_S, connect, failure, stub
from tests.support.web import frame, frames

pytestmark = pytest.mark.asyncio(loop_scope="session")

CODE = grpc.StatusCode
DRAW = "/samplerd.v1.SamplerService/SampleDistribution"
TRANSPORTS = pytest.mark.parametrize("transport", ["grpcio", "envoy"])
POLICY = """
[allow]
"*" = ["/samplerd.v1.SamplerService/GetServerInfo"]
drawer = ["/samplerd.v1.SamplerService/Sample", "/samplerd.v1.SamplerService/SampleStream"]
large = ["/samplerd.v1.SamplerService/SampleDistribution", "/samplerd.v1.SamplerService/SampleDistributions"]
operator = ["/samplerd.v1.SamplerService/*", "/inference.GRPCInferenceService/*",
  "/grpc.reflection.v1alpha.ServerReflection/*"]
"""


def line(name: str, token: str) -> str:
    return f"{name}:sha256:{hashlib.sha256(token.encode()).hexdigest()}\n"


def bearer(token: str) -> dict[str, object]:
    return {"metadata": (("authorization", f"Bearer {token}"),)}


def request() -> pb.SampleRequest:
    return pb.SampleRequest(tensor=tensor(one_hot(1, 100, 42)))


async def reflect(channel: grpc.aio.Channel, token: str) -> grpc.StatusCode:
    while True:
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(**bearer(token))
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # the refusal may come before the question
            await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
            await call.done_writing()
            await call.read()
        code = await asyncio.wait_for(call.code(), WAIT_S)
        # A refusal that comes while the question is written is hidden by the client's own error.
        if not (code is CODE.INTERNAL and "execute_batch" in (call.debug_error_string() or "")):
            return code


def post(address: str, path: str, token: str, context: ssl.SSLContext | None = None) -> tuple[int, bytes]:
    """An HTTP request of Connect or of the Open Inference Protocol."""
    scheme = "http" if context is None else "https"
    headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
    asked = urllib.request.Request(f"{scheme}://{address}{path}", b"{}", headers)
    try:
        with urllib.request.urlopen(asked, timeout=WAIT_S, context=context) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def web_status(address: str, path: str, kind: str, token: str) -> int:
    """The status of a call of gRPC-Web: of the trailers, which come as the last frame of the body."""
    body = frame(pb.SampleRequest(distribution="none").SerializeToString())
    own = {"authorization": f"Bearer {token}"} if token else {}
    sent = base64.b64encode(body) if kind.endswith("text") else body
    status, headers, told = web.post(address, sent, kind, path, **own)
    assert (status, headers["content-type"]) == (200, kind)
    [(flags, trailers)] = frames(base64.b64decode(told) if kind.endswith("text") else told)
    assert flags == 0x80
    return int(trailers.split(b"\r\n")[0].removeprefix(b"grpc-status: "))


@TRANSPORTS
async def test_each_identity_may_call_what_the_policy_allows_it(transport, tmp_path):
    tokens, policy = tmp_path / "tokens", tmp_path / "policy.toml"
    tokens.write_text(
        "# who may call\n"
        + line("drawer", "d-secret")
        + line("operator", "o-secret")
        + line("large", "l-secret")
        + "plain-secret\n"
    )
    policy.write_text(POLICY)
    http = ("--http-listen", "127.0.0.1:0") if transport == "grpcio" else ()
    daemon = await asyncio.to_thread(
        Daemon(
            *("--transport", transport, "--token-file", str(tokens), "--policy-file", str(policy), "--reflection"),
            *http,
        ).__enter__
    )
    async with connect(daemon.address) as channel:
        service = stub(channel)
        many = [service.Sample(request(), **bearer(token)) for token in ("d-secret", "o-secret") for _ in range(20)]
        assert {next(iter((await call).samples)) for call in many} == {42}
        for token in ("d-secret", "o-secret", "plain-secret"):
            assert (await service.GetServerInfo(pb.GetServerInfoRequest(), **bearer(token))).version
        assert (await failure(service.Sample(request(), **bearer("plain-secret")))).code() is CODE.PERMISSION_DENIED
        assert (await failure(service.Sample(request(), **bearer("wrong")))).code() is CODE.UNAUTHENTICATED
        listed = pb.ListDistributionsRequest()
        assert (await service.ListDistributions(listed, **bearer("o-secret"))) is not None
        error = await failure(service.ListDistributions(listed, **bearer("d-secret")))
        assert error.code() is CODE.PERMISSION_DENIED
        assert error.details() == "/samplerd.v1.SamplerService/ListDistributions: this caller may not call it"
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ServerMetadata",
            request_serializer=oip.ServerMetadataRequest.SerializeToString,
            response_deserializer=oip.ServerMetadataResponse.FromString,
        )
        assert (await infer(oip.ServerMetadataRequest(), **bearer("o-secret"))).name
        assert (
            await failure(infer(oip.ServerMetadataRequest(), **bearer("d-secret")))
        ).code() is CODE.PERMISSION_DENIED
        assert await reflect(channel, "d-secret") is CODE.PERMISSION_DENIED
        assert await reflect(channel, "o-secret") is CODE.OK
        health = health_pb2_grpc.HealthStub(channel)
        assert (await health.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
        # One request and many replies: the rule is that of the method.
        for token, code in (
            ("l-secret", CODE.NOT_FOUND),
            ("o-secret", CODE.NOT_FOUND),
            ("d-secret", CODE.PERMISSION_DENIED),
        ):
            call = service.SampleDistribution(pb.SampleRequest(distribution="none"), **bearer(token))
            assert (await failure(call.read())).code() is code, token
        for token, code in (("l-secret", 5), ("d-secret", 7), ("wrong", 16), ("", 16)):
            for kind in ("application/grpc-web", "application/grpc-web-text"):
                assert await asyncio.to_thread(web_status, daemon.http_address, DRAW, kind, token) == code, token
        # Connect and the Open Inference Protocol over HTTP.
        info, listing = "/samplerd.v1.SamplerService/GetServerInfo", "/samplerd.v1.SamplerService/ListDistributions"
        assert (await asyncio.to_thread(post, daemon.http_address, info, "d-secret"))[0] == 200
        assert (await asyncio.to_thread(post, daemon.http_address, listing, "o-secret"))[0] == 200
        status, body = await asyncio.to_thread(post, daemon.http_address, listing, "d-secret")
        assert (status, json.loads(body)["code"]) == (403, "permission_denied")
        status, body = await asyncio.to_thread(post, daemon.http_address, "/v2/repository/index", "d-secret")
        assert status == 403, body
        # The policy is read again.
        policy.write_text(POLICY.replace('drawer = ["/samplerd.v1.SamplerService/Sample",', "drawer = ["))
        await until(lambda: service.Sample(request(), **bearer("d-secret")), CODE.PERMISSION_DENIED)
        assert (await service.Sample(request(), **bearer("o-secret"))).samples
        policy.write_text("nonsense")
        # A list that is not to be used changes nothing; the tokens are read again.
        tokens.write_text(line("operator", "new-secret"))
        await until(lambda: service.Sample(request(), **bearer("o-secret")), CODE.UNAUTHENTICATED)
        assert (await service.Sample(request(), **bearer("new-secret"))).samples
        assert (await health.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
    seen = await asyncio.to_thread(daemon.metrics)
    assert seen['samplerd_identity_rows_total{identity="drawer"}'] >= 20
    assert seen['samplerd_identity_rows_total{identity="operator"}'] >= 22
    assert seen['samplerd_identity_refusals_total{code="PERMISSION_DENIED",identity="drawer"}'] >= 5
    assert seen['samplerd_identity_refusals_total{code="PERMISSION_DENIED",identity="anonymous"}'] == 1
    assert seen['samplerd_requests_total{code="PERMISSION_DENIED",rpc="ListDistributions"}'] == 2
    await asyncio.to_thread(daemon.__exit__)
    log = "\n".join(daemon.log)
    assert "a call was refused" in log
    assert f'"line": 5, "method": "{DRAW}s"' in log
    assert "/samplerd.v1.SamplerService/ListDistributions" in log
    assert "secret" not in log


async def until(call, code: grpc.StatusCode) -> None:
    """Wait until a call is refused: files are looked at once a second."""
    end = time.monotonic() + WAIT_S
    while await code_of(call()) is not code:
        assert time.monotonic() < end, f"never refused as {code}"
        await asyncio.sleep(0.1)


async def code_of(call) -> grpc.StatusCode:
    with suppress(grpc.aio.AioRpcError):
        await call
    return await call.code()


@TRANSPORTS
async def test_certificates_are_identities_too(transport, authority, tmp_path):
    policy = tmp_path / "policy.toml"
    policy.write_text(
        '[allow]\nreader = ["/samplerd.v1.SamplerService/GetServerInfo"]\nwriter = ["/samplerd.v1.SamplerService/*"]\n'
    )
    http = ("--http-listen", "127.0.0.1:0") if transport == "grpcio" else ()
    daemon = await asyncio.to_thread(
        Daemon(
            *("--transport", transport, *tls_flags(authority.sign("server")), *http),
            *("--tls-client-ca", str(authority.certificate), "--policy-file", str(policy)),
        ).__enter__
    )
    for name, may_draw, may_ask in (("reader", False, True), ("writer", True, True), ("nobody", False, False)):
        pair = authority.sign(name)
        credentials = grpc.ssl_channel_credentials(
            authority.certificate.read_bytes(), pair.key.read_bytes(), pair.certificate.read_bytes()
        )
        async with grpc.aio.secure_channel(daemon.address, credentials) as channel:
            service = stub(channel)
            for allowed, call in (
                (may_draw, service.Sample(request())),
                (may_ask, service.GetServerInfo(pb.GetServerInfoRequest())),
            ):
                assert await code_of(call) is (CODE.OK if allowed else CODE.PERMISSION_DENIED), name
            health = health_pb2_grpc.HealthStub(channel)
            assert (await health.Check(health_pb2.HealthCheckRequest())).status
        context = ssl.create_default_context(cafile=str(authority.certificate))
        context.load_cert_chain(pair.certificate, pair.key)
        path = "/samplerd.v1.SamplerService/GetServerInfo"
        status, _ = await asyncio.to_thread(post, daemon.http_address, path, "", context)
        assert status == (200 if may_ask else 403), name
    seen = await asyncio.to_thread(daemon.metrics)
    assert seen['samplerd_identity_rows_total{identity="writer"}'] == 1
    assert seen['samplerd_identity_refusals_total{code="PERMISSION_DENIED",identity="nobody"}'] == 3
    await asyncio.to_thread(daemon.__exit__)


@TRANSPORTS
async def test_every_worker_holds_to_the_policy_and_reads_the_tokens_again(transport, tmp_path):
    tokens, policy = tmp_path / "tokens", tmp_path / "policy.toml"
    tokens.write_text(line("drawer", "d-secret"))
    policy.write_text('[allow]\ndrawer = ["/samplerd.v1.SamplerService/Sample"]\n')
    flags = ("--transport", transport, "--workers", "2", "--token-file", str(tokens), "--policy-file", str(policy))
    daemon = await asyncio.to_thread(Daemon(*flags).__enter__)
    draws: list[grpc.StatusCode] = []

    async def ask(token: str) -> set[tuple[grpc.StatusCode, grpc.StatusCode]]:
        """Ask on many connections, which both workers get some of."""
        seen = set()
        for _ in range(16):
            async with connect(daemon.address) as channel:
                service = stub(channel)
                draw = await code_of(service.Sample(request(), **bearer(token)))
                told = await code_of(service.GetServerInfo(pb.GetServerInfoRequest(), **bearer(token)))
                draws.append(draw)
                seen.add((draw, told))
        return seen

    assert await ask("d-secret") == {(CODE.OK, CODE.PERMISSION_DENIED)}
    tokens.write_text(line("drawer", "new-secret"))
    async with asyncio.timeout(WAIT_S):  # each worker looks once a second
        while await ask("d-secret") != {(CODE.UNAUTHENTICATED, CODE.UNAUTHENTICATED)}:
            pass
    assert await ask("new-secret") == {(CODE.OK, CODE.PERMISSION_DENIED)}
    seen = await asyncio.to_thread(daemon.metrics)
    assert seen['samplerd_identity_rows_total{identity="drawer"}'] == draws.count(CODE.OK) >= 32
    await asyncio.to_thread(daemon.__exit__)
