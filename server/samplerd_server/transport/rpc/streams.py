"""The open streams of all connections, which a drain ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from samplerd_server.transport.rpc.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from samplerd_server.core.errors import SamplerdError
    from samplerd_server.metrics.metrics import Metrics
    from samplerd_server.transport.rpc.call import Call
    from samplerd_server.transport.rpc.joins import JoinsRequests
    from samplerd_server.transport.rpc.reply_bytes import ReplyBytes
    from samplerd_server.transport.rpc.stream_messages import Messages, Request, Result
    from samplerd_server.transport.rpc.stream_reply import Submit

__all__ = ["Streams"]


class Streams:
    """Opens and runs streams with the limits of this server."""

    def __init__(
        self,
        metrics: Metrics,
        replies: ReplyBytes,
        *,
        max_requests: int,
        log_refusal: Callable[[str, SamplerdError, Any], None] | None = None,
    ) -> None:
        self._metrics = metrics
        self.replies = replies
        """The bytes of large replies that are being sent."""
        self._max_requests = max_requests
        self._log_refusal = log_refusal
        self._open: set[Stream[Any, Any]] = set()

    def __len__(self) -> int:
        """Count the open streams."""
        return len(self._open)

    def new(
        self,
        messages: Messages[Request, Result],
        submit: Submit[Request],
        call: Call,
        joins: JoinsRequests | None = None,
    ) -> Stream[Request, Result]:
        """Make the stream of a call; `joins` joins requests that came together; None = they stay alone."""
        return Stream(
            call,
            messages=messages,
            submit=submit,
            metrics=self._metrics,
            reply_bytes=self.replies,
            limit=self._max_requests,
            log_refusal=self._log_refusal,
            joins=joins,
        )

    async def run(self, stream: Stream[Any, Any]) -> None:
        """Read and write until the client is done, or the server drains.

        Raises:
            UnavailableError: the server drains; the client should go elsewhere.

        """
        self._open.add(stream)
        try:
            await stream.run()
        finally:
            self._open.discard(stream)

    def submit_gathered(self) -> None:
        """Submit every request that is read and not submitted, before a drain refuses new ones."""
        for stream in self._open:
            stream.submit_gathered()

    def drain(self) -> None:
        """End every stream once what it has in flight is answered."""
        for stream in self._open:
            stream.drain()
