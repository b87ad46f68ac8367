"""What h2load does not look at: that a server draws, and that it answered with OK."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from benchmarks.load import SAMPLE_PATH, LoadError
from samplerd.v1 import sampler_pb2 as pb

if TYPE_CHECKING:
    from benchmarks.scrape import Reading

__all__ = ["checked_empty", "checked_reply", "expect_all_ok"]


def checked_reply(port: int, request: pb.SampleRequest) -> pb.SampleResponse:
    """Call once with a real client and check the reply, since h2load would not.

    Raises:
        LoadError: the reply is not one id for each row, or the same seed draws others.

    """
    replayed = pb.SampleRequest()
    replayed.CopyFrom(request)
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.max_send_message_length", -1)]) as channel:
        call = channel.unary_unary(
            SAMPLE_PATH,
            request_serializer=pb.SampleRequest.SerializeToString,
            response_deserializer=pb.SampleResponse.FromString,
        )
        reply: pb.SampleResponse = call(request, timeout=60)
        replayed.seed = reply.seed
        again: pb.SampleResponse = call(replayed, timeout=60)
    shape = request.shared_memory if request.HasField("shared_memory") else request.tensor
    is_drawn = len(reply.samples) == shape.rows and all(0 <= drawn < shape.vocab_size for drawn in reply.samples)
    if not is_drawn or reply.row_errors:
        raise LoadError(f"not a drawn id for each row: {reply}")
    if again.samples != reply.samples:
        raise LoadError(f"seed {reply.seed} drew {reply.samples}, then {again.samples}")
    return reply


def expect_all_ok(grown: Reading, requests: int, *, rows: int | None = None, rpc: str = "Sample") -> None:
    """Check that the server answered this many requests with OK, and drew this many rows (by default as many).

    Raises:
        LoadError: some request failed, or something else was answering.

    """
    ok = grown.total("samplerd_requests_total", rpc=rpc, code="OK")
    drawn = grown.total("samplerd_rows_total")
    wanted = requests if rows is None else rows
    if not ok == requests == grown.total("samplerd_requests_total", rpc=rpc) or drawn != wanted:
        raise LoadError(
            f"of {requests} requests with {wanted} rows the server answered {ok:.0f} with OK and drew {drawn:.0f} rows"
        )


def checked_empty(port: int, request: bytes, reply: bytes) -> None:
    """Call an empty handler once with a real client.

    Raises:
        LoadError: it does not answer with its bytes.

    """
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.max_send_message_length", -1)]) as channel:
        call = channel.unary_unary(SAMPLE_PATH, request_serializer=bytes, response_deserializer=bytes)
        got: bytes = call(request, timeout=60)
    if got != reply:
        raise LoadError(f"the empty handler answered {got!r}")
