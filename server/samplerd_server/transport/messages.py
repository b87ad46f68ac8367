"""How the messages of each streaming RPC are read and written: what `Stream` does not know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from samplerd_server.transport.encode import encode_chunks, encode_draft_error, encode_error, encode_verdict
from samplerd_server.transport.status import status_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from samplerd.v1 import sampler_pb2 as pb
    from samplerd_server.errors import SamplerdError
    from samplerd_server.request import SampleRequest, SampleResult, VerifyRequest, VerifyResult
    from samplerd_server.transport.decode import Decoder
    from samplerd_server.transport.decode_draft import DraftDecoder

__all__ = ["DraftMessages", "SampleMessages"]


@dataclass(slots=True, kw_only=True)
class SampleMessages:
    """The messages of SampleStream."""

    decoder: Decoder
    chunk_samples: int
    rpc: str = "SampleStream"

    def parse(self, data: bytes) -> pb.SampleRequest:
        """Parse the bytes of one message."""
        return self.decoder.parse(data)

    def decode(self, message: pb.SampleRequest) -> SampleRequest:
        """Check one request."""
        return self.decoder.decode(message)

    def encode(self, request: SampleRequest, result: SampleResult) -> Iterable[bytes]:
        """Encode a result as one or more chunks."""
        return encode_chunks(request, result, self.chunk_samples)

    def encode_error(self, request_id: int, error: SamplerdError) -> bytes:
        """Encode the failure of one request."""
        return encode_error(request_id, status_of(error))


@dataclass(slots=True, kw_only=True)
class DraftMessages:
    """The messages of VerifyDraftStream."""

    decoder: DraftDecoder
    rpc: str = "VerifyDraftStream"

    def parse(self, data: bytes) -> pb.VerifyDraftRequest:
        """Parse the bytes of one message."""
        return self.decoder.parse(data)

    def decode(self, message: pb.VerifyDraftRequest) -> VerifyRequest:
        """Check one request."""
        return self.decoder.decode(message)

    def encode(self, request: VerifyRequest, result: VerifyResult) -> Iterable[bytes]:
        """Encode a verdict."""
        return (encode_verdict(request, result),)

    def encode_error(self, request_id: int, error: SamplerdError) -> bytes:
        """Encode the failure of one request."""
        return encode_draft_error(request_id, status_of(error))
