"""When the transport had a call, which is before its handler begins, and by which id the call is found again.

A busy event loop leaves calls waiting between the two. The transport sets it in the context of the call's task; what
times, logs or ends the call reads it.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

from samplerd_server.transport.rpc.request_id import make_request_id

if TYPE_CHECKING:
    from samplerd_server.transport.rpc.call_record import CallRecord

__all__ = ["ARRIVED", "Arrival", "Turn", "current_record", "current_request_id", "note_begin"]


class Turn(Protocol):
    """The place of a call among those whose messages are read."""

    def give_back(self) -> None:
        """Let another call have it."""
        ...


class Arrival:
    """What the transport knows of a call."""

    __slots__ = (
        *("_made_id", "_turn", "connection", "has_begun", "has_ended", "record", "sent_id", "time", "was_cancelled"),
    )

    def __init__(self, time: float, sent_id: str = "", turn: Turn | None = None) -> None:
        self.time = time
        """When it had the call, in seconds on the monotonic clock."""
        self._turn = turn
        self.connection = ""
        """Whose call it is, as `peer_of` tells; empty = the transport has not asked."""
        self.has_begun = False
        """Whether a handler has begun, which for a unary call has the whole message."""
        self.was_cancelled = False
        """Whether its handler was cancelled before the deadline: its caller has reset it."""
        self.has_ended = False
        """Whether the transport has sent all of the reply, or given it up."""
        self.sent_id = sent_id
        """The request id that the client sent; empty = none that can be used."""
        self._made_id = ""
        self.record: CallRecord | None = None
        """What is noted of the call for the access log; None = nothing."""

    @property
    def turn(self) -> Turn | None:
        """Its place among the calls that are read; None = it takes none, or has given it back."""
        return self._turn

    def begin(self) -> None:
        """Take note that a handler has begun: the place among the calls that are read is another's."""
        self.has_begun = True
        if self._turn is not None:
            self._turn.give_back()
            self._turn = None

    def end(self) -> None:
        """Take note that the transport is done with the call, whether or not a handler has begun."""
        self.has_ended = True
        if self._turn is not None:
            self._turn.give_back()
            self._turn = None

    @property
    def request_id(self) -> str:
        """The request id: the client's, or one that is made when it is first asked for."""
        if self.sent_id:
            return self.sent_id
        if not self._made_id:
            self._made_id = make_request_id()
        return self._made_id


ARRIVED: ContextVar[Arrival] = ContextVar("ARRIVED")
"""Not set: the transport knows nothing earlier than the handler, as in tests without one."""


def note_begin() -> Arrival | None:
    """Take note that the call of this task is answered, whatever becomes of its message; returns its arrival."""
    arrival = ARRIVED.get(None)
    if arrival is not None:
        arrival.begin()
    return arrival


def current_record() -> CallRecord | None:
    """Give the record of the call of this task; None = nothing is noted of it."""
    arrival = ARRIVED.get(None)
    return None if arrival is None else arrival.record


def current_request_id() -> str:
    """Give the request id of the call of this task."""
    arrival = ARRIVED.get(None)
    return make_request_id() if arrival is None else arrival.request_id
