"""How `Stream` reads and writes the messages of each of our streaming RPCs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.transport.codec.encode import (
    encode,
    encode_chunks,
    encode_draft_error,
    encode_error,
    encode_verdict,
    result_bytes,
)
from samplerd_server.transport.codec.status import status_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from samplerd_server.core.errors import SamplerdError
    from samplerd_server.core.request import SampleRequest, VerifyRequest
    from samplerd_server.core.result import SampleResult, VerifyResult
    from samplerd_server.transport.codec.decode import Decoder
    from samplerd_server.transport.codec.decode_draft import DraftDecoder

__all__ = ["DraftMessages", "SampleMessages"]


@dataclass(slots=True, kw_only=True)
class SampleMessages:
    """The messages of SampleStream."""

    decoder: Decoder
    chunk_samples: int

    def decode(self, data: bytes) -> SampleRequest:
        """Parse and check one request."""
        return self.decoder.decode_bytes(data)

    def identify(self, data: bytes) -> int:
        """Read the id of a request that could not be decoded."""
        return _identify(pb.SampleRequest, data)

    def encode(self, request: SampleRequest, result: SampleResult | None) -> Iterable[bytes]:
        """Encode a result as one or more chunks; None = its parts have been sent already."""
        if result is None:
            return ()
        if len(result.samples) <= self.chunk_samples:
            return (encode(request, result),)
        return encode_chunks(request, result, self.chunk_samples)

    def encode_error(self, request_id: int, error: SamplerdError, call_id: str) -> bytes:
        """Encode the failure of one request of the call with this request id."""
        return encode_error(request_id, status_of(error, call_id))

    def size_bytes(self, result: SampleResult | None) -> int:
        """Count the bytes of a result in memory; None = its parts have been sent already."""
        return 0 if result is None else result_bytes(result)


@dataclass(slots=True, kw_only=True)
class DraftMessages:
    """The messages of VerifyDraftStream."""

    decoder: DraftDecoder

    def decode(self, data: bytes) -> VerifyRequest:
        """Parse and check one request."""
        return self.decoder.decode_bytes(data)

    def identify(self, data: bytes) -> int:
        """Read the id of a request that could not be decoded."""
        return _identify(pb.VerifyDraftRequest, data)

    def encode(self, request: VerifyRequest, result: VerifyResult) -> Iterable[bytes]:
        """Encode a verdict."""
        return (encode_verdict(request, result).SerializeToString(),)

    def encode_error(self, request_id: int, error: SamplerdError, call_id: str) -> bytes:
        """Encode the failure of one request of the call with this request id."""
        return encode_draft_error(request_id, status_of(error, call_id))

    def size_bytes(self, result: VerifyResult) -> int:
        """Count the bytes of a verdict in memory, which may be as long as the longest draft."""
        return 4 * (len(result.samples) + len(result.path))


def _identify(kind: type[pb.SampleRequest] | type[pb.VerifyDraftRequest], data: bytes) -> int:
    try:
        return kind.FromString(data).id
    except DecodeError:
        return 0
