"""A server's description of itself: version, device, limits and health."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from samplerd.v1 import sampler_pb2 as pb

__all__ = ["Health", "Limits", "ServerInfo", "decode_info"]


class Health(IntEnum):
    """The answer of grpc.health.v1; the numbers of its enum."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits in force; see the contract's message of this name."""

    max_message_bytes: int
    max_rows_per_request: int
    max_vocab_size: int
    max_samples_per_request: int
    chunk_samples: int
    max_batch_rows: int
    max_batch_bytes: int
    queue_rows: int
    queue_bytes: int
    max_top_n: int
    max_tokens_per_row: int
    max_stream_samples: int
    max_distributions: int
    distribution_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    """The server: version, device, limits, capabilities."""

    version: str
    """Version of samplerd."""
    device: str
    """Which device draws: "cpu", "cuda:0", ..."""
    device_name: str
    """The device's name as its maker gives it."""
    kernel: str
    """Name of the implementation of the sampler that is in use."""
    rng: str
    """Name and version of the random number generator, and of the rule that turns its numbers into ids."""
    limits: Limits
    capabilities: frozenset[str]
    """Names of the optional fields and RPCs that this server supports."""
    start_time: datetime | None
    """When the server started, in UTC."""
    torch_version: str
    threads: int
    """Number of threads that draw."""


def decode_info(response: pb.GetServerInfoResponse) -> ServerInfo:
    """Return the description in a reply."""
    names = Limits.__dataclass_fields__
    started = response.start_time.ToDatetime(tzinfo=UTC) if response.HasField("start_time") else None
    return ServerInfo(
        version=response.version,
        device=response.device,
        device_name=response.device_name,
        kernel=response.kernel,
        rng=response.rng,
        limits=Limits(**{name: getattr(response.limits, name) for name in names}),
        capabilities=frozenset(response.capabilities),
        start_time=started,
        torch_version=response.torch_version,
        threads=response.threads,
    )
