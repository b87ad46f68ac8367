"""The labels by which metrics tell one RPC from another."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["RpcLabels", "camel_case"]

_WORKING = frozenset(
    {
        *("Sample", "SampleStream", "SampleDistribution", "VerifyDraft", "VerifyDraftStream"),
        *("CreateDistribution", "ModelInfer", "ModelStreamInfer"),
    }
)
"""RPCs whose requests are work for the sampler, or bring many bytes."""
_FEW_CODES = ("OK", "INVALID_ARGUMENT", "INTERNAL", "NOT_FOUND")
_CODES = (
    *_FEW_CODES,
    *("CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "UNAVAILABLE"),
)


class RpcLabels(NamedTuple):
    """One RPC, named as grpc-ecosystem dashboards expect."""

    service: str
    """The full name of its service: ``samplerd.v1.SamplerService``."""
    method: str
    grpc_type: str
    """``unary``, ``server_stream`` or ``bidi_stream``."""
    refusals: tuple[str, ...] = ()
    """The status codes with which this server refuses callers for who they are."""

    @property
    def timed_as(self) -> str:
        """Its name among the times of requests: its own if it draws or uploads, or ``other``."""
        return self.method if self.method in _WORKING else "other"

    @property
    def codes(self) -> tuple[str, ...]:
        """The status codes that it is known to answer with: the series of these exist from the start."""
        return (*(_CODES if self.method in _WORKING else _FEW_CODES), *self.refusals)

    @property
    def grpc_codes(self) -> tuple[str, ...]:
        """The same codes, as grpc-ecosystem dashboards expect them: in CamelCase."""
        return tuple(map(camel_case, self.codes))


def camel_case(code: str) -> str:
    """Give the name of a status code as grpc-ecosystem dashboards expect it."""
    return code if code == "OK" else code.title().replace("_", "")
