"""The bytes of messages that have come in part: one bound for all calls, enforced while they arrive.

A message counts until it is whole; from then on the queue counts it. Past the bound the call whose last byte came
longest ago is refused, if it has stalled; otherwise the one that sends now. So clients that send half of a body and
stop do not shut out others. Runs on the event loop.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Protocol

from samplerd_server.core.errors import OverloadedError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from samplerd_server.core.errors import SamplerdError
    from samplerd_server.metrics.instruments import Counter

__all__ = ["Intake", "Sender"]

_REASON = "incoming_bytes"
_STALLED_S = 1.0
"""Seconds without a byte after which a message has stalled: several round trips of any network."""
_RETRY_AFTER_S = 1.0
"""After this long whoever has stalled can be refused instead."""


class Sender(Protocol):
    """A call whose client is sending a message."""

    def fail(self, error: SamplerdError) -> Coroutine[Any, Any, None]:
        """End the call with an error."""
        ...


class Intake:
    """Counts the bytes of incomplete messages by their calls."""

    def __init__(self, max_bytes: int, shed: Counter | None, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the bound in bytes, the counter of refused requests, and a clock in seconds."""
        self._max_bytes = max_bytes
        self._shed = shed
        self._clock = clock
        self._senders: dict[Sender, tuple[int, float]] = {}
        """Bytes and time of the last of them; the call whose last byte came longest ago is first."""
        self._ending: set[asyncio.Task[None]] = set()
        self.bytes = 0
        """Bytes of all incomplete messages."""

    def add(self, sender: Sender, size: int) -> None:
        """Count bytes that a call has sent.

        Raises:
            OverloadedError: there is no room for them; what the call had sent before counts no more either.

        """
        now = self._clock()
        held, _ = self._senders.pop(sender, (0, 0.0))
        self._senders[sender] = held + size, now
        self.bytes += size
        while self.bytes > self._max_bytes:
            stalest, (_, last) = next(iter(self._senders.items()))
            has_stalled = stalest is not sender and now - last >= _STALLED_S
            refused = stalest if has_stalled else sender
            error = OverloadedError(
                f"messages of {self.bytes} bytes are arriving, {self._max_bytes} are the most",
                reason=_REASON,
                retry_after_s=_RETRY_AFTER_S,
            )
            self.keep(refused, 0)
            if self._shed is not None:
                self._shed.add(1, _REASON)
            if not has_stalled:
                raise error
            ending = asyncio.ensure_future(refused.fail(error))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    def keep(self, sender: Sender, size: int) -> None:
        """Count this many bytes of a call from now on: a message of it is whole, or the call has ended."""
        held, last = self._senders.pop(sender, (0, 0.0))
        if size and held:
            self._senders[sender] = size, last
            self.bytes += size
        self.bytes -= held
