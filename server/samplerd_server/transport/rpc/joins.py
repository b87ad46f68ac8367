"""Joins the requests of a stream that came together and are alike into one, which is queued and drawn as one.

What counts requests counts each of them. One that could not be queued at once is not queued at all: the stream then
submits its requests one by one, and each is admitted or refused by itself. Event loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from samplerd_server.transport.codec.joint_requests import JointRequest, encode_joint, join_requests
from samplerd_server.transport.rpc.stream_messages import encoded_now

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from samplerd_server.batching.ticket import Reply
    from samplerd_server.core.result import SampleResult
    from samplerd_server.transport.codec.decode import Decoder
    from samplerd_server.transport.rpc.stream_messages import Encoded
    from samplerd_server.transport.rpc.submitter import Submitter

__all__ = ["JoinsRequests", "SampleJoins"]


class JoinsRequests(Protocol):
    """What a stream asks for joint requests."""

    def join(self, messages: Sequence[bytes]) -> Iterable[bytes | JointRequest]:
        """Join neighbouring messages that are alike; give the others as they are."""
        ...

    def submit(self, reply: Reply, joint: JointRequest, arrival: float, deadline: float, connection: str) -> bool:
        """Queue a joint request; returns whether it was: otherwise each of its requests asks for itself."""
        ...

    def encode(self, joint: JointRequest, result: SampleResult) -> Encoded:
        """Encode the reply to each of the requests."""
        ...


class SampleJoins:
    """Joins requests of SampleStream."""

    __slots__ = ("_decoder", "_most_rows", "_submitter")

    def __init__(self, decoder: Decoder, submitter: Submitter, most_rows: int) -> None:
        """Take what decodes and queues the requests, and the most rows of one that is joined."""
        self._decoder = decoder
        self._submitter = submitter
        self._most_rows = most_rows

    def join(self, messages: Sequence[bytes]) -> Iterable[bytes | JointRequest]:
        """Join neighbouring messages that are alike; give the others as they are."""
        return join_requests(self._decoder, messages, self._most_rows)

    def submit(self, reply: Reply, joint: JointRequest, arrival: float, deadline: float, connection: str) -> bool:
        """Queue a joint request; returns whether it was: otherwise each of its requests asks for itself."""
        return self._submitter.submit_joint_to(
            reply, joint.request, arrival, deadline, connection, requests=len(joint.ids)
        )

    def encode(self, joint: JointRequest, result: SampleResult) -> Encoded:
        """Encode the reply to each of the requests."""
        return encoded_now(*encode_joint(joint, result))
