"""The labels by which metrics tell one RPC from another."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["RpcLabels"]


class RpcLabels(NamedTuple):
    """One RPC, named as grpc-ecosystem dashboards expect."""

    service: str
    """The full name of its service: ``samplerd.v1.SamplerService``."""
    method: str
    grpc_type: str
    """``unary`` or ``bidi_stream``."""
