"""Notices clients that disconnect while their calls wait.

By the ASGI specification, ``receive`` waits for a disconnect once a request has been read; pyvoy's returns the state at
once. One timer therefore polls all waiting calls for disconnects. Most calls are answered before it first runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

__all__ = ["Watch", "Watched"]

_TICK_S = 0.05
_MAX_POLLS = 64
"""Most polls per tick: bounds the cost of many waiting calls. One poll takes some 20 us of the event loop."""
_MAX_PAUSE_S = 1.0
_GROWTH = 1.5
"""Factor by which the time between two polls of a call grows: a long wait need not be noticed as quickly."""


class Watched(Protocol):
    """A waiting call."""

    pause_s: float
    """Seconds between its last poll and the next; 0 before the first."""
    poll_at: float
    """Time of its next poll."""

    def poll(self) -> asyncio.Future[Mapping[str, Any]]:
        """Ask pyvoy for the next event of the client."""
        ...

    def on_disconnect(self) -> None:
        """React to the disconnect of the client."""
        ...


class Watch:
    """The calls of one event loop that wait and will read nothing more."""

    def __init__(self) -> None:
        self._calls: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, call: Watched, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to poll a call."""
        self._calls.add(call)
        if self._timer is None:
            self._timer = loop.call_later(_TICK_S, self._tick, loop)

    def discard(self, call: Watched) -> None:
        """Stop polling a call."""
        self._calls.discard(call)

    def close(self) -> None:
        """Stop polling all calls, because the server ends."""
        self._calls.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(_TICK_S, self._tick, loop) if self._calls else None
        now = loop.time()
        polls = 0
        for call in self._calls:
            if not call.pause_s:
                call.pause_s = _TICK_S
                call.poll_at = now + _TICK_S
            elif call.poll_at <= now and polls < _MAX_POLLS:
                polls += 1
                call.pause_s = min(_MAX_PAUSE_S, call.pause_s * _GROWTH)
                call.poll_at = float("inf")
                call.poll().add_done_callback(lambda event, call=call: self._on_event(call, event, loop))  # type: ignore[misc]

    def _on_event(
        self, call: Watched, event: asyncio.Future[Mapping[str, Any]], loop: asyncio.AbstractEventLoop
    ) -> None:
        if call not in self._calls:
            return
        if event.result()["type"] == "http.request":
            call.poll_at = loop.time() + call.pause_s
        else:
            self._calls.discard(call)
            call.on_disconnect()
