"""The bytes that large replies hold while they are sent: one bound for all calls, also for clients that do not read.

A reply counts with all that it holds, from the moment that it is made until the transport has sent it: the arrays that
are not encoded yet, the message that is written, and the transport's copy of it. One that would go beyond the bound is
dropped, and its call ends with RESOURCE_EXHAUSTED: it does not wait for room, since it would take the memory all the
while that the bound is there to limit. A caller may hold a quarter of the bound, or one reply, so that no
single one shuts out others. Runs on the event loop.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from samplerd_server.core.errors import OverloadedError, ReplyTooLargeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from samplerd_server.metrics.instruments import Counter

__all__ = ["COPIES", "LEAST_BYTES", "ReplyBytes"]

LEAST_BYTES = 1 << 16
"""Fewer bytes of a call do not count: transports buffer as much of each anyway, and most replies are far smaller. All
replies of a stream that are not written count together."""
COPIES = 2
"""A message is in memory as often while it is sent: as it was encoded, and as the transport's copy."""
_REASON = "reply_bytes"
_SHARE = 4
"""A caller may hold the bound divided by this."""
_RETRY_AFTER_S = 1.0
"""Some round trips of any network: a client that reads has read its replies by then."""


class ReplyBytes:
    """Counts replies by their callers."""

    def __init__(self, max_bytes: int, shed: Counter) -> None:
        """Take the bound, and the counter of refused requests."""
        self._max_bytes = max_bytes
        self._shed = shed
        self._callers: dict[str, int] = {}
        self.bytes = 0
        """Bytes that all replies hold which are being sent."""

    def take(self, caller: str, size: int, *, reply: int | None = None) -> None:
        """Count a reply of a caller until `give`.

        Args:
            caller: who asked for it.
            size: bytes to count.
            reply: bytes of the reply, where others before it begin to count with it.

        Raises:
            OverloadedError: there is no room for it now.
            ReplyTooLargeError: there never is.

        """
        own = size if reply is None else reply
        if own > self._max_bytes:
            self._shed.add(1, _REASON)
            raise ReplyTooLargeError(own, self._max_bytes)
        held = self._callers.get(caller, 0)
        if self.bytes + size > self._max_bytes:
            text = f"replies of {self.bytes} bytes wait to be read, {self._max_bytes} are the most"
        elif held and held + size > self._max_bytes // _SHARE:
            text = f"{held} bytes of your replies wait to be read, {self._max_bytes // _SHARE} are the most"
        else:
            self._callers[caller] = held + size
            self.bytes += size
            return
        self._shed.add(1, _REASON)
        raise OverloadedError(text, reason=_REASON, retry_after_s=_RETRY_AFTER_S)

    @contextmanager
    def hold(self, caller: str, size: int) -> Iterator[None]:
        """Count a reply of a caller within the body of ``with``, if it is large.

        Raises:
            OverloadedError: there is no room for it now.
            ReplyTooLargeError: there never is.

        """
        if size < LEAST_BYTES:
            yield
            return
        self.take(caller, size)
        try:
            yield
        finally:
            self.give(caller, size)

    def give(self, caller: str, size: int) -> None:
        """Count a reply of a caller no more: it is sent, or nobody will read it."""
        self.bytes -= size
        held = self._callers.pop(caller) - size
        if held:
            self._callers[caller] = held
