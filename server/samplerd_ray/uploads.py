"""Distributions that all replicas hold: read for the command, created at and deleted from one samplerd.

Rule 1: the server gets the bytes that were uploaded, as they are.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.json_format import Parse, ParseError
from google.protobuf.message import DecodeError

from samplerd.v1 import sampler_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Uploads", "read_upload"]

_SERVICE = "/samplerd.v1.SamplerService"
_CALL_S = 120.0
"""An upload may wait for the sampler to build its index."""


def read_upload(path: str) -> tuple[str, bytes]:
    """Read a CreateDistributionRequest, JSON or binary; returns the name and the binary message.

    Raises:
        ValueError: it is none, or says what cannot hold for all replicas.

    """
    data = Path(path).read_bytes()
    try:
        if data.lstrip().startswith(b"{"):
            message = Parse(data, pb.CreateDistributionRequest())
        else:
            message = pb.CreateDistributionRequest.FromString(data)
    except (ParseError, DecodeError) as error:
        raise ValueError(f"{path} is no CreateDistributionRequest: {str(error).partition(chr(10))[0]}") from None
    if not message.name:
        raise ValueError(f"{path}: name: give one: a name that a server chooses is another on each replica")
    if message.HasField("ttl"):
        raise ValueError(f"{path}: ttl: what is kept for all replicas stays until it is forgotten")
    if message.HasField("shared_memory"):
        raise ValueError(f"{path}: shared_memory: other nodes do not have it; send a tensor")
    return message.name, message.SerializeToString()


class Uploads:
    """What one samplerd holds for all replicas. Event loop of the replica."""

    def __init__(self, target: str) -> None:
        """Take the address of the server: a Unix socket, which needs no certificate."""
        self._target = target
        self._channel: grpc.aio.Channel | None = None
        self.held: dict[str, int] = {}
        """The version of each, by name."""
        self.refused: dict[str, tuple[int, str]] = {}
        """The version that the server refused, and why, by name."""

    async def create(self, name: str, version: int, request: bytes) -> None:
        """Create a distribution in the place of another version of it; a refusal is remembered.

        Raises:
            grpc.aio.AioRpcError: the server could not answer.

        """
        if name in self.held:
            await self.delete(name)
        try:
            await self._call("CreateDistribution", request)
        except grpc.aio.AioRpcError as error:
            if error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
                raise
            self.refused[name] = version, f"{error.code().name}: {error.details()}"
            return
        self.refused.pop(name, None)
        self.held[name] = version

    async def delete(self, name: str) -> None:
        """Delete a distribution, if it is there."""
        try:
            await self._call("DeleteDistribution", pb.DeleteDistributionRequest(name=name).SerializeToString())
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
        self.held.pop(name, None)

    async def _call(self, method: str, request: bytes) -> None:
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(self._target, options=[("grpc.max_send_message_length", -1)])
        call: Callable[..., Any] = self._channel.unary_unary(f"{_SERVICE}/{method}")
        token = os.environ.get("SAMPLERD_TOKEN")
        await call(request, timeout=_CALL_S, metadata=(("authorization", f"Bearer {token}"),) if token else None)

    async def aclose(self) -> None:
        """Close the connection."""
        if self._channel is not None:
            await self._channel.close()
