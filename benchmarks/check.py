"""What h2load does not look at: that a server draws, and that it answered with OK."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from benchmarks.load import SAMPLE_PATH, LoadError
from samplerd.v1 import sampler_pb2 as pb

if TYPE_CHECKING:
    from benchmarks.scrape import Reading

__all__ = ["checked_reply", "expect_all_ok"]


def checked_reply(port: int, request: pb.SampleRequest) -> pb.SampleResponse:
    """Call once with a real client and check the reply, since h2load would not.

    Raises:
        LoadError: the reply is not one id of the row, or the same seed draws another.

    """
    replayed = pb.SampleRequest()
    replayed.CopyFrom(request)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(
            SAMPLE_PATH,
            request_serializer=pb.SampleRequest.SerializeToString,
            response_deserializer=pb.SampleResponse.FromString,
        )
        reply: pb.SampleResponse = call(request, timeout=60)
        replayed.seed = reply.seed
        again: pb.SampleResponse = call(replayed, timeout=60)
    if len(reply.samples) != 1 or not 0 <= reply.samples[0] < request.tensor.vocab_size or reply.row_errors:
        raise LoadError(f"not a drawn id: {reply}")
    if again.samples != reply.samples:
        raise LoadError(f"seed {reply.seed} drew {reply.samples}, then {again.samples}")
    return reply


def expect_all_ok(grown: Reading, requests: int) -> None:
    """Check that the server answered this many calls with OK, and drew a row for each.

    Raises:
        LoadError: some call failed, or something else was answering.

    """
    ok = grown.total("samplerd_requests_total", rpc="Sample", code="OK")
    rows = grown.total("samplerd_rows_total")
    if not ok == rows == requests == grown.total("samplerd_requests_total", rpc="Sample"):
        raise LoadError(f"of {requests} calls the server answered {ok:.0f} with OK and drew {rows:.0f} rows")
