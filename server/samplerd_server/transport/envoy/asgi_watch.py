"""Notices clients that have gone while their calls wait.

Once a request has been read whole, pyvoy's ``receive`` does not wait for the client to go, as ASGI has it: it says at
once how things stand. So waiting calls are asked after, all by one timer; most are answered before it first runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

__all__ = ["Watch", "Watched"]

_TICK_S = 0.05
_MAX_POLLS = 64
"""In one tick: bounds what a thousand waiting calls cost. One question takes some 20 us of the event loop."""
_MAX_PAUSE_S = 1.0
_GROWTH = 1.5
"""Each pause is so much longer than the one before: a call that has waited for long can be noticed a little later."""


class Watched(Protocol):
    """A call that waits."""

    pause_s: float
    """Until it is asked after again; 0 at first."""
    poll_at: float
    """When that is."""

    def poll(self) -> asyncio.Future[Mapping[str, Any]]:
        """Ask for what the client does next."""
        ...

    def leave(self) -> None:
        """Take notice that the client has gone."""
        ...


class Watch:
    """The calls of one event loop that wait and read no further."""

    def __init__(self) -> None:
        self._calls: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, call: Watched, loop: asyncio.AbstractEventLoop) -> None:
        """Ask after a call from now on."""
        self._calls.add(call)
        if self._timer is None:
            self._timer = loop.call_later(_TICK_S, self._tick, loop)

    def discard(self, call: Watched) -> None:
        """Ask after it no more."""
        self._calls.discard(call)

    def close(self) -> None:
        """Ask no more: the server ends."""
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
                call.poll().add_done_callback(lambda event, call=call: self._learn(call, event, loop))  # type: ignore[misc]

    def _learn(self, call: Watched, event: asyncio.Future[Mapping[str, Any]], loop: asyncio.AbstractEventLoop) -> None:
        if call not in self._calls:
            return
        if event.result()["type"] == "http.request":
            call.poll_at = loop.time() + call.pause_s
        else:
            self._calls.discard(call)
            call.leave()
