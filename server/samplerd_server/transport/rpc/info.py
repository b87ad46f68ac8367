"""The reply of GetServerInfo, which stays the same for the life of the process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplerd import __version__
from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.core.request import RNG

if TYPE_CHECKING:
    from collections.abc import Iterable

    from samplerd_server.config import ServerConfig
    from samplerd_server.core.engine_facts import EngineFacts
    from samplerd_server.transport.rpc.descriptor import Rpc

__all__ = ["describe"]

_FIELDS = ("SampleRequest.distribution",)
"""Optional fields that work with every sampler."""


def _optional(config: ServerConfig, *, has_cuda_memory: bool) -> frozenset[str]:
    """Name the optional fields that work because a setting turns them on."""
    are_on = {"shared_memory": bool(config.transport.shared_memory_prefix), "cuda_shared_memory": has_cuda_memory}
    messages = ("SampleRequest", "CreateDistributionRequest")
    return frozenset(f"{message}.{field}" for field, is_on in are_on.items() if is_on for message in messages)


def describe(
    config: ServerConfig, facts: EngineFacts, rpcs: Iterable[Rpc], *, has_cuda_memory: bool = False
) -> pb.GetServerInfoResponse:
    """Describe this server, its capabilities and its limits.

    Args:
        config: its settings.
        facts: what draws.
        rpcs: those that it serves.
        has_cuda_memory: whether clients can register memory of the card.

    """
    info = pb.GetServerInfoResponse(
        version=__version__,
        device=facts.device,
        device_name=facts.device_description,
        kernel=facts.kernel,
        rng=RNG,
        limits=pb.Limits(
            max_message_bytes=config.transport.max_message_bytes,
            max_rows_per_request=config.limits.max_rows,
            max_vocab_size=config.limits.max_vocab_size,
            max_samples_per_request=config.limits.max_samples,
            chunk_samples=config.limits.chunk_samples,
            max_batch_rows=config.batching.max_rows,
            max_batch_bytes=config.batching.max_bytes,
            queue_rows=config.admission.queue_rows,
            queue_bytes=config.admission.queue_bytes,
            max_top_n=config.limits.max_top_n,
            max_tokens_per_row=config.limits.max_ids_per_list,
            max_stream_samples=config.limits.max_stream_samples,
            max_distributions=config.distributions.max_count,
            distribution_bytes=config.distributions.max_bytes,
        ),
        capabilities=[
            *(rpc.capability for rpc in rpcs if rpc.capability),
            *_FIELDS,
            *sorted(facts.capabilities | _optional(config, has_cuda_memory=has_cuda_memory)),
        ],
        torch_version=facts.torch_version,
        threads=facts.threads,
    )
    if config.worker is None:
        info.start_time.GetCurrentTime()
    else:
        info.start_time.FromNanoseconds(int(config.worker.started_at_s * 1e9))
    return info
