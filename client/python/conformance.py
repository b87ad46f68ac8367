"""The conformance suite through the Python client: see client/conformance/README.md for what is tried and printed."""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
from google.protobuf.json_format import MessageToDict
from google.rpc import error_details_pb2, status_pb2

from conformance_chunks import try_chunks
from conformance_requests import MismatchError, RequestFeatures, expect
from samplerd.v1 import sampler_pb2 as pb
from samplerd.v1 import sampler_pb2_grpc as pb_grpc
from samplerd_client import (
    DeadlineError,
    InvalidRequestError,
    OverloadedError,
    SamplerClient,
    TlsConfig,
    UnauthenticatedError,
    UnavailableError,
)
from samplerd_client.channel import ChannelConfig, open_channel

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable

    from google.protobuf.message import Message

REQUESTS: dict[str, type[Message]] = {
    "Sample": pb.SampleRequest,
    "VerifyDraft": pb.VerifyDraftRequest,
    "CreateDistribution": pb.CreateDistributionRequest,
    "DeleteDistribution": pb.DeleteDistributionRequest,
}
FEATURES = (
    *("calls", "parameters", "arrays", "halves", "guidance", "drafts", "frequencies", "stream", "chunks", "limits"),
    *("deadline", "cancel", "retry", "budget", "metadata", "servers", "connections", "unix", "tls", "token"),
)
IGNORED = {"timing", "message"}
"""What is the server's own: where the time went, and texts for people."""


def is_same(got: Any, want: Any, tolerance: float) -> bool:
    """Compare ProtoJSON: floats within the tolerance, all else exactly."""
    if isinstance(want, dict):
        keys = (got.keys() | want.keys()) - IGNORED
        return isinstance(got, dict) and all(_is_same_field(got, want, key, tolerance) for key in keys)
    if isinstance(want, list):
        return len(got) == len(want) and all(is_same(*pair, tolerance) for pair in zip(got, want, strict=True))
    if isinstance(want, float) and isinstance(got, float | int):
        return math.isclose(got, want, rel_tol=0.0, abs_tol=tolerance)
    return bool(got == want)


def _is_same_field(got: dict[str, Any], want: dict[str, Any], key: str, tolerance: float) -> bool:
    if key == "raw_samples" and "kind" in want:
        ours, theirs = (np.frombuffer(base64.b64decode(side.get(key, "")), "<f4") for side in (got, want))
        return np.allclose(ours, theirs, rtol=0.0, atol=tolerance, equal_nan=True)
    return key in got and key in want and is_same(got[key], want[key], tolerance)


class Runner(RequestFeatures):
    """Tries the features one after the other."""

    def __init__(
        self,
        *,
        target: str,
        vectors: Path,
        retry_target: str = "",
        servers: str = "",
        unix_target: str = "",
        tls_target: str = "",
        ca: Path | None = None,
        token: str = "",
    ) -> None:
        super().__init__(target=target, vectors=json.loads(vectors.read_text()))
        self._servers = servers.split(",")
        self._unix_target = unix_target
        self._retry_target = retry_target
        self._tls_target = tls_target
        self._ca = ca
        self._token = token
        self._tolerance: float = self._vectors["tolerance"]

    async def run(self) -> bool:
        """Try everything; returns whether all passed."""
        passed = [await self._try(name, getattr(self, name)) for name in FEATURES]
        return all(passed)

    async def _try(self, name: str, feature: Callable[[], Awaitable[str]]) -> bool:
        try:
            detail = await feature()
        except Exception as error:  # noqa: BLE001  # whatever it is, the other features are tried
            sys.stderr.write(f"{name}: {type(error).__name__}: {error}\n")
            sys.stdout.write(f"{name}\tfail\t{error if isinstance(error, MismatchError) else type(error).__name__}\n")
            return False
        sys.stdout.write(f"{name}\tpass\t{detail}\n")
        sys.stdout.flush()
        return True

    async def calls(self) -> str:
        """Make all calls, with the stubs."""
        async with open_channel(ChannelConfig(target=self._target)) as channel:
            stub = pb_grpc.SamplerServiceStub(channel)
            for call in self._vectors["calls"]:
                await self._check_call(stub, call)
        return f"{len(self._vectors['calls'])} calls"

    async def _check_call(self, stub: Any, call: dict[str, Any]) -> None:
        request = REQUESTS[call["rpc"]].FromString(base64.b64decode(call["request"]))
        try:
            reply = await getattr(stub, call["rpc"])(request, timeout=30)
        except grpc.aio.AioRpcError as error:
            want = call.get("error", {"code": 0, "fields": []})
            expect(error.code().value[0] == want["code"], f"{call['name']}: {error.code()}: {error.details()}")
            expect(want["fields"] in ([], fields_of(error)), f"{call['name']}: names {fields_of(error)}")
            return
        expect("reply" in call, f"{call['name']}: succeeded, where {call.get('error')} was due")
        if call["rpc"] in {"Sample", "VerifyDraft"}:
            self._compare(call["name"], reply, call["reply"])

    def _compare(self, name: str, reply: Message, want: dict[str, Any]) -> None:
        got = MessageToDict(reply, preserving_proto_field_name=True, use_integers_for_enums=True)
        expect(is_same(got, want, self._tolerance), f"{name}: got {got}, not {want}")

    async def frequencies(self) -> str:
        """Compare the frequencies of unseeded draws with their law."""
        async with open_channel(ChannelConfig(target=self._target)) as channel:
            stub = pb_grpc.SamplerServiceStub(channel)
            for case in self._vectors["frequencies"]:
                reply = await stub.Sample(pb.SampleRequest.FromString(base64.b64decode(case["request"])), timeout=30)
                probabilities = np.array(case["probabilities"])
                counts = np.bincount(reply.samples, minlength=len(probabilities))
                expected, possible = probabilities * case["draws"], probabilities > 0
                expect(not counts[~possible].any(), f"{case['name']}: an impossible category was drawn")
                statistic = float(((counts - expected)[possible] ** 2 / expected[possible]).sum())
                expect(statistic <= case["critical"], f"{case['name']}: {statistic} > {case['critical']}")
        return f"{len(self._vectors['frequencies'])} laws"

    async def stream(self) -> str:
        """Send all requests at once over one stream."""
        asked: dict[int, dict[str, Any]] = {}
        requests: list[pb.SampleRequest] = []
        for call in self._vectors["calls"]:
            request = (
                pb.SampleRequest.FromString(base64.b64decode(call["request"])) if call["rpc"] == "Sample" else None
            )
            if request is None or "reply" not in call or request.WhichOneof("source") == "distribution":
                continue
            request.id = len(requests) + 1000
            asked[request.id] = call
            requests.append(request)
        async with open_channel(ChannelConfig(target=self._target)) as channel:
            stream = pb_grpc.SamplerServiceStub(channel).SampleStream(timeout=60)
            await asyncio.gather(self._send_all(stream, requests), self._take_all(stream, asked))
        return f"{len(requests)} requests in flight"

    async def _send_all(self, call: Any, requests: list[pb.SampleRequest]) -> None:
        for request in requests:
            await call.write(request)
        await call.done_writing()

    async def _take_all(self, call: AsyncIterable[pb.SampleResponse], asked: dict[int, dict[str, Any]]) -> None:
        async for reply in call:
            case = asked.pop(reply.id)
            expect(not reply.HasField("error"), f"{case['name']}: {reply.error}")
            self._compare(case["name"], reply, {**case["reply"], "id": str(reply.id)})
        expect(not asked, f"{len(asked)} requests were not answered")

    async def chunks(self) -> str:
        """Draw from distributions, chunk by chunk."""
        return await try_chunks(self._target, self._retry_target, self._vectors["chunks"])

    async def limits(self) -> str:
        """Send and receive messages larger than gRPC takes by default."""
        async with self._client() as client:
            info = await client.server_info()
            row = np.zeros(3_000_000, np.float32)  # of its ids, most take four bytes in a reply
            result = await client.sample(row, num_samples=2_000_000)
            expect(result.samples.shape == (1, 2_000_000), f"{result.samples.shape} samples")
        return f"max_message_bytes {info.limits.max_message_bytes}"

    def _slow(self, client: SamplerClient, timeout_s: float) -> Awaitable[Any]:
        slow = self._vectors["slow"]
        row = (np.arange(slow["vocab_size"]) % slow["modulus"]).astype(np.float32)
        return client.sample(row, num_samples=slow["num_samples"], timeout_s=timeout_s)

    async def deadline(self) -> str:
        """Let a deadline pass while a call waits for its reply."""
        async with self._client() as client:
            try:
                await self._slow(client, 0.05)
            except (DeadlineError, OverloadedError) as error:
                return type(error).__name__
        raise MismatchError("it was answered in time")

    async def cancel(self) -> str:
        """Cancel a call and a stream."""
        async with self._client() as client:
            task = asyncio.ensure_future(self._slow(client, 60.0))
            done, _ = await asyncio.wait({task}, timeout=0.1)
            expect(not done, "it was over before it could be cancelled")
            task.cancel()
            done, _ = await asyncio.wait({task}, timeout=1.0)
            expect(done and task.cancelled(), "it was not cancelled")
        return "CANCELLED"

    async def retry(self) -> str:
        """Retry a refused call only where that is allowed, and after the server's pushback."""
        async with SamplerClient(self._retry_target, coalesce=False) as client:
            for seed in (1, 4):
                result = await client.sample(values=[[0.0]], seed=seed)
                expect(result.samples.ravel().tolist() == [7], f"answered with {result.samples}")
            for seed, kind in ((2, OverloadedError), (3, InvalidRequestError)):
                try:
                    await client.sample(values=[[0.0]], seed=seed)
                except kind:
                    continue
                raise MismatchError(f"request {seed} was answered")
        return "tried again twice"

    async def metadata(self) -> str:
        """Send metadata, and the name of the distribution that is drawn from."""
        async with SamplerClient(self._retry_target, metadata={"x-tenant": "conformance"}) as client:
            result = await client.sample(distribution="prior")
        expect(result.samples.ravel().tolist() == [7], f"answered with {result.samples}")
        return "and the distribution's name"

    async def budget(self) -> str:
        """Meet an outage: retries are bounded over all calls, and successes give some back."""
        async with SamplerClient(self._retry_target) as client:
            for distribution in ["outage"] * 40 + ["steady"] * 11 + ["outage"]:
                try:
                    await client.sample(distribution=distribution)
                except UnavailableError:
                    expect(distribution == "outage", "refused by a steady server")
                    continue
                expect(distribution == "steady", "answered in an outage")
        return "21 retries of 41 calls"

    async def servers(self) -> str:
        """Draw from several servers, some of which are not serving, or not for long."""
        async with SamplerClient(self._servers) as client:
            for _ in range(200):
                result = await client.sample(values=[[0.0]])
                expect(result.samples.ravel().tolist() == [0], f"drew {result.samples}")
                await asyncio.sleep(0.01)
        return "200 draws"

    async def connections(self) -> str:
        """Take turns on four connections."""
        async with SamplerClient(self._retry_target, connections=4) as client:
            for _ in range(40):
                await client.sample(distribution="connections")
        async with SamplerClient(self._target, connections=4) as client:
            for _ in range(8):
                expect(await self._worked_samples(client) == self._worked, "drew otherwise")
        return "4 connections"

    async def unix(self) -> str:
        """Call over a Unix socket, where a token needs no TLS."""
        async with SamplerClient(self._unix_target, token="unasked") as client:  # noqa: S106  # a server that wants none
            expect(await self._worked_samples(client) == self._worked, "drew otherwise")
        return "and a token in plain text"

    @property
    def _worked(self) -> list[int]:
        return list(self._vectors["calls"][0]["reply"]["samples"])

    async def _worked_samples(self, client: SamplerClient) -> list[int]:
        result = await client.sample(values=[[1.0, 2.0, 0.5, 1.5]], temperature=0.7, seed=1234, num_samples=5)
        return [int(token) for token in result.samples[0]]

    def _tls_client(self, token: str | None, ca: Path | None) -> SamplerClient:
        tls = TlsConfig(ca=ca)
        return SamplerClient(self._tls_target, tls=tls, token=token, timeout_s=5.0)

    async def _sample_over_tls(self, token: str | None, ca: Path | None) -> list[int]:
        async with self._tls_client(token, ca) as client:
            return await self._worked_samples(client)

    async def tls(self) -> str:
        """Call over TLS, and refuse a certificate of an unknown authority."""
        samples = await self._sample_over_tls(self._token, self._ca)
        expect(samples == self._worked, f"drew {samples}")
        try:
            await self._sample_over_tls(self._token, None)
        except (UnavailableError, DeadlineError):
            return "and refused without the CA"
        raise MismatchError("a stranger's certificate was accepted")

    async def token(self) -> str:
        """Call with the right token, and be refused without it."""
        for token in ("wrong", None):
            try:
                await self._sample_over_tls(token, self._ca)
            except UnauthenticatedError:
                continue
            raise MismatchError(f"accepted with token {token}")
        return "UNAUTHENTICATED"


def fields_of(error: grpc.aio.AioRpcError) -> list[str]:
    """List the fields that an error's details name."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                bad = error_details_pb2.BadRequest()
                if detail.Unpack(bad):
                    return [violation.field for violation in bad.field_violations]
    return []


def main() -> int:
    """Run the suite."""
    parser = argparse.ArgumentParser(description="Run the conformance suite through the Python client.")
    parser.add_argument("--target", required=True)
    parser.add_argument("--vectors", required=True, type=Path)
    parser.add_argument("--retry-target", required=True)
    parser.add_argument("--servers", required=True)
    parser.add_argument("--unix-target", required=True)
    parser.add_argument("--tls-target", required=True)
    parser.add_argument("--ca", required=True, type=Path)
    parser.add_argument("--token", required=True)
    return 0 if asyncio.run(Runner(**vars(parser.parse_args())).run()) else 1


if __name__ == "__main__":
    sys.exit(main())
