"""The part of a soak's traffic that browsers and curl make, over HTTP/1.1.

These are calls of Connect and gRPC-Web, and those of the Open Inference Protocol.
"""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import numpy as np
from google.protobuf.json_format import MessageToDict

from samplerd.v1 import sampler_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from random import Random

    from benchmarks.soak_traffic import Soak

__all__ = ["WEB_KINDS", "LostError", "WebCaller"]

_TIMEOUT_S = 30.0
_SERVICE = "/samplerd.v1.SamplerService/"
_INFER = "/v2/models/sampler/infer"
_HEAD = "inference-header-content-length"
_PAGES = ("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/sampler", "/v2/models/sampler/stats")
_STREAM_REQUESTS = 8
_END, _TRAILERS = 2, 0x80
_UNAVAILABLE = 503


class LostError(Exception):
    """A request was refused by a worker that ends, or ended with it."""


class _HttpConnection:
    """A connection that stays open from one request to the next."""

    def __init__(self, address: str) -> None:
        self._host, _, self._port = address.rpartition(":")
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect, unless it is connected."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, int(self._port), limit=1 << 20)
        return self._streams

    def close(self) -> None:
        """Disconnect, without a farewell."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def send(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> None:
        """Send a request.

        Raises:
            OSError: the server has gone.

        """
        _, writer = await self.open()
        told = {"host": "samplerd", "content-length": str(len(body)), **headers}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in told.items()), "", ""]
        writer.write("\r\n".join(lines).encode() + body)
        await writer.drain()

    async def receive(self) -> tuple[int, dict[str, str], bytes]:
        """Read a reply: its status, headers with names in lower case, and body.

        Raises:
            OSError, EOFError: the server has gone.

        """
        reader, _ = await self.open()
        top, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines if line)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(await reader.readuntil(b"\r\n"), 16):
                body += await reader.readexactly(size)
                await reader.readexactly(2)
            await reader.readuntil(b"\r\n")
        else:
            body = await reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("connection", "").lower() == "close":
            self.close()
        return int(top.split()[1]), headers, body

    async def ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a request and read its reply; raises as `send` and `receive`, and TimeoutError."""
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await self.send(method, path, body, headers or {})
                return await self.receive()
        except BaseException:
            self.close()  # what comes next on it would be of this request
            raise


def _frame(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def _frames(body: bytes) -> list[tuple[int, bytes]]:
    """Split a body into the flags and content of each frame."""
    found, at = [], 0
    while at < len(body):
        size = int.from_bytes(body[at + 1 : at + 5], "big")
        found.append((body[at], body[at + 5 : at + 5 + size]))
        at += 5 + size
    return found


class WebCaller:
    """One caller without gRPC: its connection, its random numbers, and the requests that it makes."""

    def __init__(self, soak: Soak, random: Random, address: str) -> None:
        """Take the HOST:PORT that speaks HTTP/1.1."""
        self.soak = soak
        self.random = random
        self._http = _HttpConnection(address)

    def close(self) -> None:
        """Disconnect."""
        self._http.close()

    async def _post(
        self, path: str, body: bytes, kind: str, expected: int = 200, headers: Mapping[str, str] | None = None
    ) -> bytes:
        status, _, reply = await self._http.ask("POST", path, body, {"content-type": kind, **(headers or {})})
        return self._checked(status, expected, reply)

    def _checked(self, status: int, expected: int, reply: bytes) -> bytes:
        if status == _UNAVAILABLE and self.soak.loses_calls:
            raise LostError(reply[:200])
        if status != expected:
            raise ValueError(f"HTTP status {status} instead of {expected}: {reply[:200]!r}")
        return reply

    async def connect(self) -> None:
        """Draw by Connect: in binary, in JSON, and by GET."""
        request, expected = self.random.choice(self.soak.cases.samples)
        way = self.random.randrange(3)
        if way == 0:
            reply = await self._post(f"{_SERVICE}Sample", request.SerializeToString(), "application/proto")
            got = list(pb.SampleResponse.FromString(reply).samples)
        elif way == 1:
            asked = json.dumps(MessageToDict(request)).encode()
            got = json.loads(await self._post(f"{_SERVICE}Sample", asked, "application/json"))["samples"]
        else:
            message = base64.urlsafe_b64encode(request.SerializeToString()).rstrip(b"=").decode()
            query = urlencode({"connect": "v1", "encoding": "proto", "base64": "1", "message": message})
            status, _, reply = await self._http.ask("GET", f"{_SERVICE}Sample?{query}")
            got = list(pb.SampleResponse.FromString(self._checked(status, 200, reply)).samples)
        self.soak.hold(f"Connect with seed {request.seed}", got, expected)

    async def web_stream(self) -> None:
        """Draw for several requests over a stream of Connect or gRPC-Web."""
        kind, end = self.random.choice([("application/connect+proto", _END), ("application/grpc-web+proto", _TRAILERS)])
        asked: dict[int, list[int]] = {}
        body = b""
        for number in range(1, _STREAM_REQUESTS + 1):
            request, asked[number] = self.random.choice(self.soak.cases.samples)
            body += _frame(request.SerializeToString() + pb.SampleRequest(id=number).SerializeToString())
        *replies, last = _frames(await self._post(f"{_SERVICE}SampleStream", body, kind))
        self._check_end(last, end)
        found = [pb.SampleResponse.FromString(message) for _, message in replies]
        self._check_replies(found)
        self.soak.hold(f"SampleStream by {kind}", {own.id: list(own.samples) for own in found}, asked)

    def _check_replies(self, replies: list[pb.SampleResponse]) -> None:
        for reply in replies:
            if reply.error.message:
                if self.soak.loses_calls and "draining" in reply.error.message:
                    raise LostError(reply.error.message)
                raise ValueError(reply.error.message)

    def _check_end(self, last: tuple[int, bytes], flag: int) -> None:
        """See that a stream ended well."""
        flags, text = last
        is_well = text == b"{}" if flag == _END else b"grpc-status: 0" in text
        if flags == flag and is_well:
            return
        if self.soak.loses_calls and (b"unavailable" in text or b"grpc-status: 14" in text):
            raise LostError(text)
        raise ValueError(f"the stream ended with {last}")

    async def grpc_web(self) -> None:
        """Draw by gRPC-Web: one call, or a large draw in chunks."""
        kind = "application/grpc-web+proto"
        if self.random.random() < 0.7:
            request, expected = self.random.choice(self.soak.cases.samples)
            method = "Sample"
        else:
            _, request, expected = self.random.choice(self.soak.cases.distributions)
            method = "SampleDistribution"
        body = await self._post(f"{_SERVICE}{method}", _frame(request.SerializeToString()), kind)
        *replies, last = _frames(body)
        self._check_end(last, _TRAILERS)
        got = [sampled for _, message in replies for sampled in pb.SampleResponse.FromString(message).samples]
        self.soak.hold(f"{method} by gRPC-Web", got, expected)

    async def http_infer(self) -> None:
        """Draw by the Open Inference Protocol over HTTP, in JSON or with binary rows, and read a description."""
        request, expected = self.random.choice(self.soak.cases.inference)
        [logits], [data] = request.inputs, request.raw_input_contents
        own: dict[str, Any] = {"name": "logits", "datatype": "FP32", "shape": list(logits.shape)}
        parameters = {name: _value(parameter) for name, parameter in request.parameters.items()}
        asked = {"inputs": [own], "outputs": [{"name": "samples"}], "parameters": parameters}
        if self.random.random() < 0.5:
            own["parameters"] = {"binary_data_size": len(data)}
            head = json.dumps(asked).encode()
            reply = await self._post(_INFER, head + data, "application/octet-stream", headers={_HEAD: str(len(head))})
        else:
            own["data"] = np.frombuffer(data, "<f4").tolist()
            reply = await self._post(_INFER, json.dumps(asked).encode(), "application/json")
        [output] = json.loads(reply)["outputs"]
        self.soak.hold("HTTP infer", output["data"], expected)
        status, _, page = await self._http.ask("GET", self.random.choice(_PAGES))
        self._checked(status, 200, page)

    async def bad_web(self) -> None:
        """Make requests that must fail, and see that each fails as it should."""
        path, kind, body, expected = self.random.choice(
            [
                ("Sample", "application/json", b"{", 400),
                ("Sample", "application/proto", b"\xff\xff", 400),
                ("Sample", "application/json", b'{"distribution": "none"}', 404),
                ("Sample", "text/plain", b"hello", 415),
                ("Unknown", "application/json", b"{}", 501),
                ("SampleStream", "application/json", b"{}", 501),
            ]
        )
        await self._post(_SERVICE + path, body, kind, expected)

    async def abandon(self) -> None:
        """Send a request, or half of one, and go away without reading the reply."""
        request = self.random.choice(self.soak.cases.samples)[0].SerializeToString()
        path, kind = f"{_SERVICE}Sample", "application/proto"
        if self.random.random() < 0.3:
            endless = pb.SampleRequest(distribution=self.random.choice(self.soak.cases.distributions)[0].name)
            endless.num_samples = 1 << 30
            path, kind, request = f"{_SERVICE}SampleDistribution", "application/grpc-web", _frame(b"")
            request = _frame(endless.SerializeToString())
        size = len(request)
        if self.random.random() < 0.3:
            request = request[: size // 2]
        try:
            await self._http.send("POST", path, request, {"content-type": kind, "content-length": str(size)})
            await asyncio.sleep(self.random.random() * 4e-3)
        finally:
            self._http.close()


def _value(parameter: Any) -> Any:
    return getattr(parameter, parameter.WhichOneof("parameter_choice"))


WEB_KINDS: tuple[tuple[int, Callable[[WebCaller], Coroutine[Any, Any, None]]], ...] = (
    (12, WebCaller.connect),
    (6, WebCaller.web_stream),
    (6, WebCaller.grpc_web),
    (6, WebCaller.http_infer),
    (3, WebCaller.bad_web),
    (3, WebCaller.abandon),
)
"""The kinds of traffic, with weights beside those of `soak_traffic.KINDS`."""
