"""The sampler of the CPU, compiled: see sampler.py.

It is imported when it is asked for: what draws with linked kernels says so before (linked.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from samplerd_server.sampling.kernels.sampler import NumbaSampler

__all__ = ["NumbaSampler"]


def __getattr__(name: str) -> Any:
    if name != "NumbaSampler":
        message = f"module {__name__} has no attribute {name}"
        raise AttributeError(message)
    from samplerd_server.sampling.kernels.sampler import NumbaSampler  # noqa: PLC0415  # see above

    return NumbaSampler
