"""The ASGI side of pyvoy as a test plays it: what a client sends, whether it reads, and that it goes."""

from __future__ import annotations

import asyncio
import struct
from typing import Any


def framed(*messages: bytes) -> bytes:
    return b"".join(struct.pack(">BI", 0, len(message)) + message for message in messages)


class Client:
    """One call. `body` is what has been sent so far; `close` says that nothing more will be."""

    def __init__(self, path: str = "/test/unary", body: bytes = b"", *headers: tuple[bytes, bytes]) -> None:
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": path,
            "headers": [(b"content-type", b"application/grpc"), (b"te", b"trailers"), *headers],
            "client": ("10.0.0.1", 1234),
        }
        self.receives = 0
        self.sent: list[dict[str, Any]] = []
        self.reads = True
        """Whether the client reads what it is sent; set by `stall` and `resume`."""
        self._body = body
        self._is_closed = False
        self._is_gone = False
        self._waiting: list[asyncio.Future[dict[str, Any]]] = []
        self._sent_more = asyncio.Condition()
        self._unread: list[asyncio.Future[None]] = []

    def receive(self) -> asyncio.Future[dict[str, Any]]:
        self.receives += 1
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        # Never at once: pyvoy asks Envoy's own thread.
        asyncio.get_running_loop().call_soon(self._serve)
        return future

    def _serve(self) -> None:
        while self._waiting and (self._is_gone or self._is_closed or self._body):
            event = {"type": "http.request", "body": self._body, "more_body": not self._is_closed}
            self._body = b""
            # As pyvoy does: a cancelled future is an error.
            self._waiting.pop(0).set_result({"type": "http.disconnect"} if self._is_gone else event)

    async def send(self, event: dict[str, Any]) -> None:
        if self._is_gone:
            raise OSError("ClientDisconnectedError")
        self.sent.append(event)
        async with self._sent_more:
            self._sent_more.notify_all()
        if event["type"] == "http.response.body" and event.get("more_body") and not self.reads:
            self._unread.append(asyncio.get_running_loop().create_future())
            await self._unread[-1]
        if event["type"] == "http.response.trailers" or (self.is_trailers_only and len(self.sent) == 2):
            self._is_gone = True  # the call is over: whoever still waits is told that nobody is there
            self._release(None)

    async def replied(self, end: bytes = b"") -> None:
        """Wait for a reply, or for one that ends so."""
        async with self._sent_more:
            await self._sent_more.wait_for(lambda: self.replies and self.replies.endswith(end))

    def feed(self, body: bytes) -> None:
        self._body += body
        self._serve()

    def close(self) -> None:
        """Send no more."""
        self._is_closed = True
        self._serve()

    def leave(self) -> None:
        """Go without a word."""
        self._is_gone = True
        self._release(OSError("ClientDisconnectedError"))

    def _release(self, error: OSError | None) -> None:
        self._serve()
        while self._unread:
            future = self._unread.pop()
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

    @property
    def is_trailers_only(self) -> bool:
        return bool(self.sent) and not self.sent[0].get("trailers", False)

    @property
    def status(self) -> dict[bytes, bytes]:
        """The trailers, wherever they were sent."""
        return dict(self.sent[0 if self.is_trailers_only else -1]["headers"])

    @property
    def replies(self) -> bytes:
        return b"".join(event["body"] for event in self.sent if event["type"] == "http.response.body")
