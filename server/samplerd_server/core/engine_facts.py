"""What callers and metrics are told of an engine."""

from __future__ import annotations

from samplerd_server.core.entity import entity

__all__ = ["EngineFacts"]


@entity
class EngineFacts:
    """What an engine is; it stays the same for the life of the engine."""

    device: str
    """Name of the device in torch."""
    device_description: str
    """Product name of the device, as the vendor reports it."""
    kernel: str
    """Name of the sampler."""
    threads: int
    """CPU threads that draw."""
    torch_version: str
    capabilities: frozenset[str]
    """Names of the optional fields that the sampler honours."""
    warm_up_s: float = 0.0
    """Seconds that its warm-up took."""
