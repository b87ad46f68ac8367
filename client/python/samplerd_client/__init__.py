"""The Python client of samplerd: logits in, samples out.

`SamplerClient` is for asyncio, `SyncSamplerClient` for everything else, ``samplerctl`` for the command line. Needs
grpcio, protobuf and numpy; takes tensors of torch and others without importing them.

Names are imported when they are first used, so that ``import samplerd_client`` and ``samplerctl --help`` wait for
neither grpcio nor numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from samplerd import __version__

if TYPE_CHECKING:
    from samplerd_client.adaptive_p import AdaptiveP
    from samplerd_client.channel import TlsConfig
    from samplerd_client.client import SamplerClient
    from samplerd_client.coalesce import Coalescing
    from samplerd_client.cuda_driver import CudaMemoryError
    from samplerd_client.distributions import Distribution
    from samplerd_client.draft import VerifyOptions, VerifyResult
    from samplerd_client.errors import (
        AlreadyExistsError,
        ConnectionLostError,
        DeadlineError,
        FieldViolation,
        InternalError,
        InvalidRequestError,
        MessageTooLargeError,
        NotFoundError,
        NotImplementedFieldError,
        OverloadedError,
        PermissionDeniedError,
        RowError,
        RowErrorReason,
        RowsFailedError,
        SamplerdError,
        UnauthenticatedError,
        UnavailableError,
    )
    from samplerd_client.info import Health, Limits, ServerInfo
    from samplerd_client.metadata import call_metadata
    from samplerd_client.options import SampleOptions
    from samplerd_client.params import Candidates, CudaSharedMemory, SharedMemory
    from samplerd_client.result import SampleChunk, SampleResult, Timing
    from samplerd_client.retry import RetryPolicy
    from samplerd_client.sampling_params import Dry, SamplingParams
    from samplerd_client.shared_memory import RegionFullError, SharedMemoryRegion, Slot
    from samplerd_client.stream import SampleStream, VerifyStream
    from samplerd_client.sync import SyncSamplerClient, SyncSampleStream, SyncVerifyStream

__all__ = [
    "AdaptiveP",
    "AlreadyExistsError",
    "Candidates",
    "Coalescing",
    "ConnectionLostError",
    "CudaMemoryError",
    "CudaSharedMemory",
    "DeadlineError",
    "Distribution",
    "Dry",
    "FieldViolation",
    "Health",
    "InternalError",
    "InvalidRequestError",
    "Limits",
    "MessageTooLargeError",
    "NotFoundError",
    "NotImplementedFieldError",
    "OverloadedError",
    "PermissionDeniedError",
    "RegionFullError",
    "RetryPolicy",
    "RowError",
    "RowErrorReason",
    "RowsFailedError",
    "SampleChunk",
    "SampleOptions",
    "SampleResult",
    "SampleStream",
    "SamplerClient",
    "SamplerdError",
    "SamplingParams",
    "ServerInfo",
    "SharedMemory",
    "SharedMemoryRegion",
    "Slot",
    "SyncSampleStream",
    "SyncSamplerClient",
    "SyncVerifyStream",
    "Timing",
    "TlsConfig",
    "UnauthenticatedError",
    "UnavailableError",
    "VerifyOptions",
    "VerifyResult",
    "VerifyStream",
    "__version__",
    "call_metadata",
]

_NAMES_BY_MODULE = {
    "adaptive_p": ("AdaptiveP",),
    "channel": ("TlsConfig",),
    "client": ("SamplerClient",),
    "coalesce": ("Coalescing",),
    "cuda_driver": ("CudaMemoryError",),
    "distributions": ("Distribution",),
    "draft": ("VerifyOptions", "VerifyResult"),
    "errors": (
        "AlreadyExistsError",
        "ConnectionLostError",
        "DeadlineError",
        "FieldViolation",
        "InternalError",
        "InvalidRequestError",
        "MessageTooLargeError",
        "NotFoundError",
        "NotImplementedFieldError",
        "OverloadedError",
        "PermissionDeniedError",
        "RowError",
        "RowErrorReason",
        "RowsFailedError",
        "SamplerdError",
        "UnauthenticatedError",
        "UnavailableError",
    ),
    "metadata": ("call_metadata",),
    "info": ("Health", "Limits", "ServerInfo"),
    "options": ("SampleOptions",),
    "params": ("Candidates", "CudaSharedMemory", "SharedMemory"),
    "result": ("SampleChunk", "SampleResult", "Timing"),
    "retry": ("RetryPolicy",),
    "sampling_params": ("Dry", "SamplingParams"),
    "shared_memory": ("RegionFullError", "SharedMemoryRegion", "Slot"),
    "stream": ("SampleStream", "VerifyStream"),
    "sync": ("SyncSampleStream", "SyncSamplerClient", "SyncVerifyStream"),
}
_MODULES = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names}


def __getattr__(name: str) -> object:
    """Import the module of a name that is used for the first time."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List what can be imported, whether it is already or not."""
    return sorted({*globals(), *__all__})
