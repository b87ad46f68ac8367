"""Paths of the Open Inference Protocol over HTTP, and which RPC answers each.

The table is that of the protocol's REST form and of Triton's extensions. What a path names in braces is a field of the
RPC's request. Nothing here knows a server: the RPCs themselves do the work.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from samplerd_server.core.errors import NotFoundError
from samplerd_server.transport.oip.contract import INFERENCE
from samplerd_server.transport.oip.echo import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.descriptor import Descriptor

__all__ = ["Match", "find_route", "is_inference_path"]

_PREFIX = "/v2"
_VERSION = "/versions/{version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """What a request of HTTP calls."""

    rpc: str
    """Name of the RPC; empty: there is one at this path, but for another method of HTTP."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Fields of its request that the path gives."""
    allow: tuple[str, ...] = ()
    """The methods of HTTP for this path."""

    @property
    def path(self) -> str:
        """The RPC's path in gRPC."""
        return f"/{INFERENCE.contract.full_name}/{self.rpc}"

    @property
    def input(self) -> Descriptor:
        """The type of its request."""
        return INFERENCE.contract.methods_by_name[self.rpc].input_type

    @property
    def output(self) -> Descriptor:
        """The type of its reply."""
        return INFERENCE.contract.methods_by_name[self.rpc].output_type


def _regions(name: str) -> list[tuple[str, str, str]]:
    """Give the routes of one kind of shared memory."""
    folder = f"/v2/{name.lower()}sharedmemory"
    return [
        ("GET", f"{folder}/status", f"{name}SharedMemoryStatus"),
        ("GET", f"{folder}/region/{{name}}/status", f"{name}SharedMemoryStatus"),
        ("POST", f"{folder}/region/{{name}}/register", f"{name}SharedMemoryRegister"),
        ("POST", f"{folder}/unregister", f"{name}SharedMemoryUnregister"),
        ("POST", f"{folder}/region/{{name}}/unregister", f"{name}SharedMemoryUnregister"),
    ]


_ROUTES: tuple[tuple[str, str, str], ...] = (
    ("GET", "/v2", "ServerMetadata"),
    ("GET", "/v2/health/live", "ServerLive"),
    ("GET", "/v2/health/ready", "ServerReady"),
    ("GET", "/v2/models/stats", "ModelStatistics"),
    *(
        route
        for version in ("", _VERSION)
        for route in (
            ("GET", f"/v2/models/{{name}}{version}", "ModelMetadata"),
            ("GET", f"/v2/models/{{name}}{version}/ready", "ModelReady"),
            ("GET", f"/v2/models/{{name}}{version}/config", "ModelConfig"),
            ("GET", f"/v2/models/{{name}}{version}/stats", "ModelStatistics"),
            ("POST", f"/v2/models/{{model_name}}{version.replace('{', '{model_')}/infer", "ModelInfer"),
        )
    ),
    ("POST", "/v2/repository/index", "RepositoryIndex"),
    ("POST", "/v2/repository/models/{model_name}/load", "RepositoryModelLoad"),
    ("POST", "/v2/repository/models/{model_name}/unload", "RepositoryModelUnload"),
    *((method, "/v2/trace/setting", "TraceSetting") for method in ("GET", "POST")),
    *((method, "/v2/models/{model_name}/trace/setting", "TraceSetting") for method in ("GET", "POST")),
    *((method, "/v2/logging", "LogSettings") for method in ("GET", "POST")),
    *_regions("System"),
    *_regions("Cuda"),
)
"""Method of HTTP, path and RPC; the first that fits is taken."""
_SPLIT = tuple((method, tuple(path.split("/")), rpc) for method, path, rpc in _ROUTES)


def is_inference_path(path: str) -> bool:
    """Whether a path belongs to this protocol, whether or not there is something at it."""
    return path == _PREFIX or path.startswith(f"{_PREFIX}/")


def find_route(method: str, path: str) -> Match:
    """Find what a request calls.

    Raises:
        NotFoundError: nothing is at this path.

    """
    parts = path.rstrip("/").split("/")
    allow: list[str] = []
    for own, pattern, rpc in _SPLIT:
        fields = _fit(pattern, parts)
        if fields is None:
            continue
        if own == method:
            return Match(rpc=rpc, fields=fields)
        allow.append(own)
    if not allow:
        raise NotFoundError(f"there is nothing at {shown(path)}")
    return Match(rpc="", allow=tuple(allow))


def _fit(pattern: tuple[str, ...], parts: list[str]) -> dict[str, Any] | None:
    """Give what stands where the pattern has names in braces; None = the path does not fit."""
    if len(pattern) != len(parts):
        return None
    fields: dict[str, str] = {}
    for expected, part in zip(pattern, parts, strict=True):
        if expected.startswith("{"):
            if not part:
                return None
            fields[expected[1:-1]] = part
        elif expected != part:
            return None
    return fields
