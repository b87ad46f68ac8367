"""The desk of the engine: where the requests of all doors come together in one queue.

Rule 1: a door that dies takes nothing with it but its own requests, which are dropped as if their callers had gone.
Rule 2: what a door may ask was checked there; its place in the queue is decided here. On the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplerd_server.batching.ticket import Ticket
from samplerd_server.core.errors import InternalError, SamplerdError
from samplerd_server.process.log import event
from samplerd_server.transport.doors import kinds
from samplerd_server.transport.doors.channel import Channel
from samplerd_server.transport.doors.pickled import dump_error
from samplerd_server.transport.doors.reply import Reply
from samplerd_server.transport.doors.requests import RequestReader
from samplerd_server.transport.doors.results import write_result
from samplerd_server.transport.doors.window import Window
from samplerd_server.transport.rpc.caller import CALLER

if TYPE_CHECKING:
    from collections.abc import Callable

    from samplerd_server.core.drawn import Drawn
    from samplerd_server.core.engine_facts import EngineFacts
    from samplerd_server.transport.doors.channel import Message
    from samplerd_server.transport.doors.requests import FindsFiles
    from samplerd_server.transport.rpc.queue_entry import QueueEntry
    from samplerd_server.transport.rpc.uploads import Uploads

__all__ = ["Desk"]

_LOG = logging.getLogger("samplerd.transport")
_GREETING_BYTES = 16
_TELL_FREED_S = 0.05
"""Seconds after which a door is told of blocks that nobody reads any more, if nothing else is sent to it."""


class Desk:
    """Waits for doors, and serves them."""

    def __init__(
        self,
        path: str,
        *,
        entry: QueueEntry,
        uploads: Uploads,
        store: FindsFiles | None,
        facts: EngineFacts,
        drawn: Callable[[], Drawn],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.path = path
        self.entry = entry
        self.uploads = uploads
        self.store = store
        self.facts = facts
        self.drawn = drawn
        self.loop = loop
        self.doors: set[_Door] = set()
        """Those that are connected."""
        self.changed = asyncio.Event()
        """Set when a door has gone; whoever waits clears it."""
        self._socket: socket.socket | None = None
        self._greeting: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Listen."""
        self._socket = listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.setblocking(False)  # noqa: FBT003  # its only parameter
        Path(self.path).unlink(missing_ok=True)  # one that was killed has left it behind
        listening.bind(self.path)
        listening.listen()
        self.loop.add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):
            own, _ = listening.accept()
            own.setblocking(False)  # noqa: FBT003  # its only parameter
            task = self.loop.create_task(self._greet(own), name="samplerd-door-greeting")
            self._greeting.add(task)
            task.add_done_callback(self._greeting.discard)

    async def _greet(self, own: socket.socket) -> None:
        """Take the memory of a new door, and serve it."""
        try:
            window = await self._take_window(own)
        except OSError as error:  # it may have died already
            event(_LOG, logging.WARNING, "a door could not be taken", cause=str(error))
            own.close()
            return
        door = _Door(self, window)
        await self.loop.connect_accepted_socket(lambda: door.channel, own)

    async def _take_window(self, own: socket.socket) -> Window:
        readable = asyncio.Event()
        self.loop.add_reader(own, readable.set)
        try:
            await readable.wait()
        finally:
            self.loop.remove_reader(own)
        _, descriptors, _, _ = socket.recv_fds(own, _GREETING_BYTES, 1)
        if not descriptors:
            raise ConnectionResetError("a door without memory")
        return Window(descriptors[0])

    def stop(self) -> None:
        """Listen no more, and end what is connected."""
        for task in self._greeting:
            task.cancel()
        if self._socket is not None:
            self.loop.remove_reader(self._socket)
            self._socket.close()
        for door in tuple(self.doors):
            door.channel.close()


class _Door:
    """One door, as the engine sees it."""

    def __init__(self, desk: Desk, window: Window) -> None:
        self._desk = desk
        self._window = window
        self._reader = RequestReader(window, desk.store)
        self._tickets: dict[int, Ticket] = {}
        self._uploads: dict[int, asyncio.Task[None]] = {}
        self._outbox: list[Message] = [(kinds.WELCOME, desk.facts)]
        self._timer: asyncio.TimerHandle | None = None
        self.channel = Channel(desk.loop, collect=self._collect, receive=self._receive, lost=self._lose)
        desk.doors.add(self)
        self.channel.wake()

    def _collect(self) -> list[Message]:
        if freed := self._window.take_returned():
            self._outbox.append((kinds.FREED, freed))
        outbox, self._outbox = self._outbox, []
        if self._window.has_loans and self._timer is None:
            self._timer = self._desk.loop.call_later(_TELL_FREED_S, self._tell_freed)
        return outbox

    def _tell_freed(self) -> None:
        self._timer = None
        self.channel.wake()

    def _receive(self, messages: list[Message]) -> None:
        for message in messages:
            kind = message[0]
            if kind == kinds.REQUEST:
                self._take(message)
            elif kind == kinds.CANCEL:
                self._cancel(message[1])
            elif kind == kinds.DEFINE:
                _, number, params, forgets = message
                self._reader.known.define(number, params, forgets=forgets)
            elif kind == kinds.COUNT:
                self._outbox.append((kinds.ANSWER, message[1], tuple(self._desk.drawn())))
            elif kind == kinds.UPLOAD:
                number = message[1]
                task = self._desk.loop.create_task(self._upload(message), name="samplerd-upload")
                self._uploads[number] = task
        self.channel.wake()

    def _take(self, message: Message) -> None:
        _, number, arrival, deadline, connection, identity, is_admitted, is_traced, request = message
        try:
            reply: Any = Reply(number, self._deliver)
            ticket = Ticket(self._reader.read(request), arrival, deadline, connection, reply)
            ticket.is_traced = is_traced
            self._desk.entry.take(ticket, identity, is_admitted=is_admitted)
            self._tickets[number] = ticket
        except SamplerdError as error:
            error.__traceback__ = None  # its frames would keep the rows
            self._fail(number, error)
        except Exception:  # noqa: BLE001  # a bug in samplerd fails this request and nothing else
            _LOG.exception("a request of a door could not be taken")
            self._fail(number, InternalError())

    def _deliver(self, number: int, result: Any, error: Exception | None) -> None:
        ticket = self._tickets.pop(number, None)
        if error is not None:
            self._fail(number, error if isinstance(error, SamplerdError) else InternalError())
            return
        span: Any = None if ticket is None else ticket.batch_span
        if span is not None:
            context = span.span.get_span_context()
            span = context.trace_id, context.span_id, span.began_s
        self._outbox.append((kinds.RESULT, number, write_result(result), span))
        self.channel.wake()

    def _fail(self, number: int, error: SamplerdError) -> None:
        self._outbox.append((kinds.FAILED, number, dump_error(error)))
        self.channel.wake()

    def _cancel(self, number: int) -> None:
        ticket = self._tickets.pop(number, None)
        if ticket is not None:
            _cancel(ticket)
        elif (upload := self._uploads.get(number)) is not None:
            upload.cancel()

    async def _upload(self, message: Message) -> None:
        _, number, arrival, deadline, connection, identity, offset, size = message
        CALLER.set(identity)
        loan, _ = self._window.lend(offset, size)
        try:
            reply = await self._desk.uploads.create(bytes(loan), arrival, deadline, connection)
            self._outbox.append((kinds.ANSWER, number, reply))
        except SamplerdError as error:
            self._fail(number, error)
        except Exception:  # noqa: BLE001  # a bug in samplerd fails this upload and nothing else
            _LOG.exception("an upload of a door raised")
            self._fail(number, InternalError())
        finally:
            del loan
            self._uploads.pop(number, None)
            self.channel.wake()

    def _lose(self) -> None:
        """Drop the requests of a door that has gone."""
        tickets, self._tickets = self._tickets, {}
        for ticket in tickets.values():
            _cancel(ticket)
        for upload in self._uploads.values():
            upload.cancel()
        if self._timer is not None:
            self._timer.cancel()
        self._desk.doors.discard(self)
        self._desk.changed.set()


def _cancel(ticket: Ticket) -> None:
    assert isinstance(ticket.reply, Reply), "a ticket that came from no door. This is a bug."
    ticket.reply.cancel()
