"""The Python client of samplerd: logits in, samples out.

`SamplerClient` is for asyncio, `SyncSamplerClient` for everything else, ``samplerctl`` for the command line. Needs
grpcio, protobuf and numpy; takes tensors of torch and others without importing them.
"""

from samplerd import __version__
from samplerd_client.adaptive_p import AdaptiveP
from samplerd_client.channel import TlsConfig
from samplerd_client.client import SamplerClient
from samplerd_client.coalesce import Coalescing
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
from samplerd_client.options import SampleOptions
from samplerd_client.params import Candidates, Dry, SamplingParams, SharedMemory
from samplerd_client.result import SampleChunk, SampleResult, Timing
from samplerd_client.retry import RetryPolicy
from samplerd_client.shared_memory import RegionFullError, SharedMemoryRegion, Slot
from samplerd_client.stream import SampleStream, VerifyStream
from samplerd_client.sync import SyncSamplerClient, SyncSampleStream, SyncVerifyStream

__all__ = [
    "AdaptiveP",
    "AlreadyExistsError",
    "Candidates",
    "Coalescing",
    "ConnectionLostError",
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
]
