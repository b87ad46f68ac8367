"""TLS, client certificates and tokens, over both transports: who is let in, who is not, and what a bad file gets."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client import SamplerClient, UnavailableError
from samplerd_client.channel import TlsConfig
from samplerd_client.retry import RetryPolicy
from tests.support.certificates import Authority, Pair, tls_flags
from tests.support.daemon import Daemon
from tests.support.requests import one_hot, tensor
from tests.support.served import WAIT_S, connect, details, failure, status_of, stub

pytestmark = pytest.mark.asyncio(loop_scope="session")

CODE = grpc.StatusCode
ONCE = RetryPolicy(max_attempts=1)
TRANSPORTS = pytest.mark.parametrize("transport", ["grpcio", "envoy"])


async def ask(address: str, tls: TlsConfig | None, **options) -> int:
    async with SamplerClient(address, tls=tls, retry=ONCE, timeout_s=WAIT_S, **options) as client:
        result = await client.sample(one_hot(1, 100, 42))
        return int(result.samples[0, 0])


async def is_refused(address: str, tls: TlsConfig | None) -> bool:
    with pytest.raises(UnavailableError):
        await ask(address, tls)
    return True


# TLS.


@TRANSPORTS
async def test_tls(transport, authority, other, tmp_path):
    daemon = await asyncio.to_thread(
        Daemon("--transport", transport, *tls_flags(authority.sign("sampler.test"))).__enter__
    )
    assert await ask(daemon.address, TlsConfig(ca=authority.certificate)) == 42
    assert await ask(daemon.address, TlsConfig(ca=authority.certificate, server_name="sampler.test")) == 42
    assert await is_refused(daemon.address, TlsConfig(ca=authority.certificate, server_name="other.test"))
    assert await is_refused(daemon.address, TlsConfig(ca=other.certificate))
    assert await is_refused(daemon.address, None)
    assert await asyncio.to_thread(protocol, daemon.address, authority) == "h2"
    await asyncio.to_thread(daemon.__exit__)


def protocol(address: str, authority: Authority) -> str | None:
    """What the server agrees to speak."""
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context(cafile=str(authority.certificate))
    context.set_alpn_protocols(["h2", "http/1.1"])
    with socket.create_connection((host, int(port))) as plain, context.wrap_socket(plain, server_hostname=host) as peer:
        assert peer.version() in {"TLSv1.2", "TLSv1.3"}
        return peer.selected_alpn_protocol()


@TRANSPORTS
async def test_clients_must_show_a_certificate_where_an_authority_is_named(transport, authority, other):
    flags = (*tls_flags(authority.sign("server")), "--tls-client-ca", str(authority.certificate))
    daemon = await asyncio.to_thread(Daemon("--transport", transport, *flags).__enter__)
    known, stranger = authority.sign("client"), other.sign("client")
    ca = authority.certificate
    assert await ask(daemon.address, TlsConfig(ca=ca, certificate=known.certificate, key=known.key)) == 42
    assert await is_refused(daemon.address, TlsConfig(ca=ca))
    assert await is_refused(daemon.address, TlsConfig(ca=ca, certificate=stranger.certificate, key=stranger.key))
    assert await is_refused(daemon.address, None)
    await asyncio.to_thread(daemon.__exit__)


async def test_with_grpcio_a_unix_socket_stays_plain(authority, tmp_path):
    flags = tls_flags(authority.sign("server"))
    daemon = await asyncio.to_thread(Daemon(*flags, unix=tmp_path / "s.sock").__enter__)
    assert await ask(daemon.unix_address, None) == 42
    assert await is_refused(daemon.address, None)
    await asyncio.to_thread(daemon.__exit__)


@TRANSPORTS
async def test_a_renewed_certificate_is_taken_up(transport, authority, other, tmp_path):
    """Moved into place, as every renewing tool does; the key first."""

    def install(pair: Pair) -> None:
        for source, name in ((pair.key, "key.pem"), (pair.certificate, "cert.pem")):
            shutil.copy(source, tmp_path / "new")
            (tmp_path / "new").rename(tmp_path / name)

    install(authority.sign("first"))
    flags = tls_flags(Pair(tmp_path / "cert.pem", tmp_path / "key.pem"))
    daemon = await asyncio.to_thread(Daemon("--transport", transport, *flags).__enter__)
    assert await ask(daemon.address, TlsConfig(ca=authority.certificate)) == 42
    # A pair that does not fit is not taken: the old one goes on.
    install(Pair(other.sign("wrong").certificate, authority.sign("unfit").key))
    for _ in range(3):
        assert await ask(daemon.address, TlsConfig(ca=authority.certificate)) == 42
    install(other.sign("second"))
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                assert await ask(daemon.address, TlsConfig(ca=other.certificate)) == 42
                break
            except UnavailableError:
                continue
    assert await is_refused(daemon.address, TlsConfig(ca=authority.certificate))
    await asyncio.to_thread(daemon.__exit__)


# Tokens.


@TRANSPORTS
async def test_only_who_has_a_token_may_call(transport, tmp_path):
    file = tmp_path / "tokens"
    file.write_text("first-token\n\n  second.token~+/=  \n")
    daemon = await asyncio.to_thread(
        Daemon("--transport", transport, "--token-file", str(file), "--reflection").__enter__
    )
    for token in ("first-token", "second.token~+/="):
        assert await ask(daemon.address, None, token=token) == 42
    async with connect(daemon.address) as channel:
        service = stub(channel)
        good = {"metadata": (("authorization", "bearer first-token"),)}
        assert (await service.GetServerInfo(pb.GetServerInfoRequest(), **good)).version
        for metadata in (
            (),
            (("authorization", "first-token"),),
            (("authorization", "Basic first-token"),),
            (("authorization", "Bearer "),),
            (("authorization", "Bearer first-toke"),),
            (("authorization", "Bearer first-token2"),),
            (("authorization", "Bearer first-token,second.token~+/="),),
            (("authorization", "Bearer first-token"), ("authorization", "Bearer wrong")),
        ):
            error = await failure(service.Sample(request(), metadata=metadata))
            assert error.code() is CODE.UNAUTHENTICATED, metadata
            assert details(status_of(error))["ErrorInfo"].reason == "UNAUTHENTICATED"
            assert "first" not in str(error)
        # A stranger's stream is refused before a message of it is read.
        stream = service.SampleStream()
        assert await asyncio.wait_for(stream.code(), WAIT_S) is CODE.UNAUTHENTICATED
        asking = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        assert await asyncio.wait_for(asking.code(), WAIT_S) is CODE.UNAUTHENTICATED
        # The probes of an orchestrator have no token.
        health = health_pb2_grpc.HealthStub(channel)
        reply = await health.Check(health_pb2.HealthCheckRequest())
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
        # Whoever was let in before is no reason to let others in, and the other way round.
        assert list((await service.Sample(request(), **good)).samples) == [42]
    seen = await asyncio.to_thread(daemon.metrics)
    assert seen['samplerd_requests_total{code="UNAUTHENTICATED",rpc="Sample"}'] == 8
    await asyncio.to_thread(daemon.__exit__)


def request() -> pb.SampleRequest:
    return pb.SampleRequest(tensor=tensor(one_hot(1, 100, 42)))
