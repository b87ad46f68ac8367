"""The link of a door to the engine: requests go out, results come back, and both ends live on if the other one dies.

Rule 1: nothing here waits for the engine on behalf of a caller: without an engine, every request is refused at once,
and may be tried again. Rule 2: when the engine ends, all that it has not answered fails, with the same error. Rule 3:
a block of the arena is free once the engine has said that it reads it no more, or has ended. On the event loop.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from samplerd_server.batching.gate import Gate
from samplerd_server.core.drawn import Drawn
from samplerd_server.core.errors import InternalError, SamplerdError, UnavailableError
from samplerd_server.process.log import event
from samplerd_server.process.remote_span import remote_batch_span
from samplerd_server.transport.doors import kinds
from samplerd_server.transport.doors.channel import Channel
from samplerd_server.transport.doors.pickled import load_error
from samplerd_server.transport.doors.questions import Questions
from samplerd_server.transport.doors.requests import RequestWriter
from samplerd_server.transport.doors.results import read_result
from samplerd_server.transport.rpc.caller import CALLER

if TYPE_CHECKING:
    from collections.abc import Callable

    from samplerd_server.batching.ticket import Ticket
    from samplerd_server.core.engine_facts import EngineFacts
    from samplerd_server.metrics.metrics import Metrics
    from samplerd_server.transport.doors.arena import Arena
    from samplerd_server.transport.doors.channel import Message

__all__ = ["Link"]

_LOG = logging.getLogger("samplerd.transport")
_RETRY_S = 0.05
"""Seconds between two tries to reach the engine; its start takes seconds."""
_HINT_S = 0.5
"""The hint to callers when to try again: what is left of a usual restart, after which four attempts reach it."""
_GREETING = b"door"


class _Watches(Protocol):
    def __call__(self, *, is_there: bool) -> None: ...


class Link:
    """What a door has in the place of a queue: `rpc.submitter.Entry`, and what takes uploads."""

    def __init__(self, path: str, arena: Arena, loop: asyncio.AbstractEventLoop) -> None:
        """Take the path of the engine's socket; `connect` comes next."""
        self.gate = Gate()
        """What refuses every request once this door drains."""
        self.facts: EngineFacts
        """What the engine is."""
        self._path = path
        self.arena = arena
        self._loop = loop
        self.channel: Channel | None = None
        """The way to the engine; None = it is not there."""
        self._writer = RequestWriter(arena)
        self._numbers = itertools.count()
        self._unsent: list[tuple[Ticket, str, bool]] = []
        """Requests that are sent at the end of this turn: ticket, identity, is_admitted."""
        self._pending: dict[int, tuple[Ticket, Callable[[asyncio.Future[Any]], None]]] = {}
        """Requests that the engine has not answered, and what their replies call when they are cancelled."""
        self._questions = Questions(loop)
        self._outbox: list[Message] = []
        self.tell: _Watches = lambda *, is_there: None  # noqa: ARG005  # nobody watches yet
        """Takes note that the engine has ended or is silent, or answers again."""
        self._metrics: Metrics | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._welcome: asyncio.Future[EngineFacts] | None = None
        self._is_closed = False

    @property
    def in_flight(self) -> int:
        """Requests that the engine has not answered."""
        return len(self._pending) + len(self._unsent) + len(self._questions)

    def watch(self, on_engine: _Watches, metrics: Metrics) -> None:
        """Tell `on_engine` whenever the engine has ended or is there again, and count what is refused."""
        self.tell, self._metrics = on_engine, metrics

    async def connect(self) -> None:
        """Connect to the engine, which may take until it is there."""
        while not self._is_closed:
            with suppress(OSError):
                await self._connect()
                return
            await asyncio.sleep(_RETRY_S)

    async def _connect(self) -> None:
        """Connect once.

        Raises:
            OSError: the engine is not there.

        """
        own = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        own.setblocking(False)  # noqa: FBT003  # its only parameter
        try:
            await self._loop.sock_connect(own, self._path)
            socket.send_fds(own, [_GREETING], [self.arena.descriptor])
            self._welcome = self._loop.create_future()
            _, channel = await self._loop.create_unix_connection(
                lambda: Channel(self._loop, collect=self._collect, receive=self._receive, lost=self._lose), sock=own
            )
        except BaseException:
            own.close()
            raise
        facts = await self._welcome
        if channel.is_lost:
            raise ConnectionResetError("the engine has ended")
        self.channel, self.facts = channel, facts
        if self._metrics is not None:
            event(_LOG, logging.INFO, "the engine is there again")
            self.tell(is_there=True)

    def close(self) -> None:
        """End the link."""
        self._is_closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self.channel is not None:
            self.channel.close()

    def take(self, ticket: Ticket, identity: str, *, is_admitted: bool = False) -> None:
        """Send a ticket to the engine at the end of this turn; see `Entry`. It is admitted or refused there.

        Raises:
            UnavailableError: this door drains, or the engine is not there.

        """
        channel = self._channel_for(is_admitted=is_admitted)
        self._unsent.append((ticket, identity, is_admitted))
        channel.wake()

    async def create(self, data: bytes, arrival: float, deadline: float, connection: str) -> bytes:
        """Let the engine check uploaded rows and keep them; see `Uploads`.

        Raises:
            SamplerdError: the upload is refused.

        """
        channel = self._channel_for(is_admitted=False)
        number, offset = next(self._numbers), self.arena.put(data)
        self._writer.hold(offset)
        self._outbox.append((kinds.UPLOAD, number, arrival, deadline, connection, CALLER.get(), offset, len(data)))
        channel.wake()
        reply: bytes = await self._questions.wait(number, self._cancel)
        return reply

    async def drawn(self) -> Drawn:
        """Ask what the engine has drawn, for all doors.

        Raises:
            UnavailableError: the engine is not there.

        """
        channel, number = self._channel_for(is_admitted=True), next(self._numbers)
        self._outbox.append((kinds.COUNT, number))
        channel.wake()
        return Drawn(*await self._questions.wait(number, lambda _: None))

    def _channel_for(self, *, is_admitted: bool) -> Channel:
        try:
            if not is_admitted:
                self.gate.check(time.monotonic())
        except UnavailableError:
            self._count("draining")
            raise
        if self.channel is None:
            self._count("engine_gone")
            raise _gone()
        return self.channel

    def _count(self, reason: str) -> None:
        if self._metrics is not None:
            self._metrics.shed.add(1, reason)

    def _collect(self) -> list[Message]:
        """Give what there is to send."""
        requests: list[Message] = []
        unsent, self._unsent = self._unsent, []
        for own in unsent:
            ticket = own[0]
            if ticket.reply.done():
                continue
            try:
                message = self._message(*own)
                requests += self._writer.take_definitions()
                requests.append(message)
            except SamplerdError as error:
                if self._metrics is not None and hasattr(error, "retry_after_s"):
                    self._count(error.reason)
                ticket.fail(error)
            except Exception:  # noqa: BLE001  # a bug in samplerd fails this request and nothing else
                _LOG.exception("a request could not be sent to the engine")
                ticket.fail(InternalError())
        outbox, self._outbox = self._outbox, []
        return requests + outbox

    def _message(self, ticket: Ticket, identity: str, is_admitted: bool) -> Message:  # noqa: FBT001  # as in `_unsent`
        load = getattr(ticket.request, "load", None)
        if load is not None:
            load()
        number = next(self._numbers)
        request = self._writer.write(ticket.request)
        on_done = partial(self._on_done, number)
        self._pending[number] = ticket, on_done
        ticket.reply.add_done_callback(on_done)
        return (
            *(kinds.REQUEST, number, ticket.arrival, ticket.deadline, ticket.connection),
            *(identity, is_admitted, ticket.is_traced, request),
        )

    def _on_done(self, number: int, reply: asyncio.Future[Any]) -> None:
        """Tell the engine that nobody waits for a reply any more."""
        if reply.cancelled() and self._pending.pop(number, None) is not None:
            self._cancel(number)

    def _cancel(self, number: int) -> None:
        if self.channel is not None:
            self._outbox.append((kinds.CANCEL, number))
            self.channel.wake()

    def _receive(self, messages: list[Message]) -> None:
        for message in messages:
            kind = message[0]
            if kind == kinds.RESULT:
                self._resolve(*message[1:])
            elif kind == kinds.FREED:
                self._writer.freed(message[1])
            elif kind == kinds.FAILED:
                self._fail(message[1], load_error(message[2]))
            elif kind == kinds.ANSWER:
                self._questions.answer(*message[1:])
            elif kind == kinds.WELCOME and self._welcome is not None and not self._welcome.done():
                self._welcome.set_result(message[1])

    def _resolve(self, number: int, result: Any, span: tuple[int, int, float] | None) -> None:
        found = self._pending.pop(number, None)
        if found is None or found[0].reply.done():
            return
        ticket, on_done = found
        if span is not None:
            ticket.batch_span = remote_batch_span(*span)
        reply: Any = ticket.reply
        if isinstance(reply, asyncio.Future):
            reply.remove_done_callback(on_done)  # what it calls takes a step of the event loop for each request
        reply.set_result(read_result(result))

    def _fail(self, number: int, error: SamplerdError) -> None:
        found = self._pending.pop(number, None)
        if found is None:
            self._questions.fail(number, error)
        else:
            found[0].fail(error)

    def fail_all(self, error: SamplerdError) -> None:
        """Answer every request with an error."""
        pending, self._pending = self._pending, {}
        unsent, self._unsent = self._unsent, []
        for ticket in [*(own[0] for own in pending.values()), *(own[0] for own in unsent)]:
            ticket.fail(error)
        self._questions.fail_all(error)

    def _lose(self) -> None:
        """Take note that the engine has ended, and look for the next one."""
        was_there, self.channel = self.channel is not None, None
        self._outbox.clear()
        if self._welcome is not None and not self._welcome.done():
            self._welcome.set_exception(ConnectionResetError("the engine has ended"))
        if not was_there:
            return  # who connects tries again
        self.fail_all(_gone())
        self._writer.forget()
        if self._is_closed:
            return
        event(_LOG, logging.WARNING, "the engine has ended; requests are refused until it is there again")
        self.tell(is_there=False)
        self._connecting = self._loop.create_task(self.connect(), name="samplerd-engine-link")


def _gone() -> UnavailableError:
    return UnavailableError(
        "the engine behind this server has ended and is started again; try again",
        reason="ENGINE_GONE",
        retry_after_s=_HINT_S,
    )
