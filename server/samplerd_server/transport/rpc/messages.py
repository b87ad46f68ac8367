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
    most_chunk_bytes,
)
from samplerd_server.transport.codec.status import status_of
from samplerd_server.transport.rpc.reply_bytes import COPIES
from samplerd_server.transport.rpc.stream_messages import Encoded, encoded_now

if TYPE_CHECKING:
    from samplerd_server.core.errors import SamplerdError
    from samplerd_server.core.request import SampleRequest, VerifyRequest
    from samplerd_server.core.result import SampleResult, VerifyResult
    from samplerd_server.transport.codec.decode import Decoder
    from samplerd_server.transport.codec.decode_draft import DraftDecoder

__all__ = ["DraftMessages", "SampleMessages", "encode_later"]


def encode_later(request: SampleRequest, result: SampleResult, chunk_samples: int) -> Encoded:
    """Encode a result as chunks of at most `chunk_samples` samples, each when it is asked for."""
    own = result.detached()
    chunks = encode_chunks(request.head, own, chunk_samples)
    return Encoded(chunks, own.held_bytes, COPIES * most_chunk_bytes(own, chunk_samples))


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

    def encode(self, request: SampleRequest, result: SampleResult | None) -> Encoded:
        """Encode a result as one message, or as chunks when they are written; None = its parts have been sent already.

        One message is encoded at once: it is no larger than the result, which may be a part of its batch's.
        """
        if result is None:
            return encoded_now()
        if len(result.samples) <= self.chunk_samples:
            return encoded_now(encode(request, result))
        return encode_later(request, result, self.chunk_samples)

    def encode_error(self, request_id: int, error: SamplerdError, call_id: str) -> bytes:
        """Encode the failure of one request of the call with this request id."""
        return encode_error(request_id, status_of(error, call_id))


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

    def encode(self, request: VerifyRequest, result: VerifyResult) -> Encoded:
        """Encode a verdict."""
        return encoded_now(encode_verdict(request, result).SerializeToString())

    def encode_error(self, request_id: int, error: SamplerdError, call_id: str) -> bytes:
        """Encode the failure of one request of the call with this request id."""
        return encode_draft_error(request_id, status_of(error, call_id))


def _identify(kind: type[pb.SampleRequest] | type[pb.VerifyDraftRequest], data: bytes) -> int:
    try:
        return kind.FromString(data).id
    except DecodeError:
        return 0
