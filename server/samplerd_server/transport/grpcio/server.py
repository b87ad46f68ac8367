"""The transport ``grpcio``: grpc.aio servers on all addresses, and their drain."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import grpc

from samplerd_server.transport.grpcio.arrivals import Arrivals, ArrivalSampler, server_ids
from samplerd_server.transport.grpcio.lines import Lines
from samplerd_server.transport.grpcio.listen import bind_port, check_free
from samplerd_server.transport.grpcio.options import server_options
from samplerd_server.transport.grpcio.resets import Resets
from samplerd_server.transport.grpcio.sockets import end_connections, read_again, silence_new, stop_reading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from samplerd_server.config import TransportConfig
    from samplerd_server.transport.grpcio.acceptor import Acceptor
    from samplerd_server.transport.grpcio.certificates import Certificates
    from samplerd_server.transport.grpcio.starting import StartingServer
    from samplerd_server.transport.rpc.arrival import Arrival
    from samplerd_server.transport.rpc.handlers import Handlers
    from samplerd_server.transport.rpc.observer import RpcObserver

__all__ = ["FINISH_FIRST_S", "GrpcServer"]

_LOG = logging.getLogger("samplerd.transport")
_QUIET_S = 0.1
"""Seconds without a new call after which all callers that wait for answers are waiting."""
_QUIET_TURNS = 4
"""Bounds that wait, for callers that send calls without waiting for answers: at most this many times `_QUIET_S`."""
FINISH_FIRST_S = 2.0
"""Seconds in which calls may finish before clients are told to go. What three refusals let a client wait is longer."""
_POLL_S = 0.01
"""Seconds between two looks at whether the last calls have come, or the last replies have been sent."""
_LAST_TRIES = 5
"""Most such looks for calls whose messages are coming."""
_TRIES = 100
"""Most such looks before the server stops all the same."""
_LEAVE_S = 1.0
"""Seconds in which clients may read what was sent to them, and leave."""
_DELIVER_S = 10.0
"""Seconds, of the drain grace, in which the systems of clients may take what was sent to them."""
_KILL_AFTER_S = 1.0
"""Seconds in which calls that were cancelled at the end of the drain grace may end."""


class GrpcServer:
    """Serves the handlers on all configured addresses through grpc.aio."""

    def __init__(
        self,
        config: TransportConfig,
        handlers: Handlers,
        observer: RpcObserver,
        *,
        certificates: Certificates,
        shares_port: bool = False,
        starting: StartingServer | None = None,
    ) -> None:
        self._config = config
        self._shares_port = shares_port or starting is not None
        self._starting = starting
        self._certificates = certificates
        self._handlers = handlers
        self._observer = observer
        self._servers: list[grpc.aio.Server] = []
        self._arrivals: list[Arrivals] = []
        self._acceptors: list[Acceptor] = []
        self._resets = Resets()
        self._sampler = ArrivalSampler()
        self.addresses: tuple[str, ...] = ()
        """Addresses that it listens on, with the ports that the system chose."""

    async def start(self) -> None:
        """Listen and answer.

        Raises:
            BindError: an address cannot be listened on.
            ConfigError: a certificate or key cannot be used.

        """
        listen = self._config.listen if self._starting is None else self._starting.addresses
        for address in listen:
            if not self._shares_port or address.startswith("unix"):
                check_free(address)
        self._lines = Lines(asyncio.get_running_loop())
        self._generic = _with_streams(self._handlers.generic)
        first = self._new_server()
        self.addresses = tuple(bind_port(first, address, self._certificates) for address in listen)
        shared = [address for address in self.addresses if not address.startswith("unix")]
        servers = [first]
        for _ in range(self._config.grpcio_acceptors - 1 if shared else 0):
            server = self._new_server()
            for address in shared:
                bind_port(server, address, self._certificates)
            servers.append(server)
        for server in servers:
            await server.start()
        self._servers = servers
        if not self._acceptors or not all(own.is_used for own in self._acceptors):
            _LOG.warning(
                "this version of grpcio takes calls up in a way that samplerd does not know: many calls of one "
                "connection make those of others wait"
            )
        elif self._generic is self._handlers.generic:
            _LOG.warning(
                "this version of grpcio reads and writes in a way that samplerd does not know: streams are slow"
            )
        self._sampler.start(self._arrivals)
        self._handlers.health.set_serving(is_serving=True)
        if self._starting is not None:
            await self._starting.stop()

    def _new_server(self) -> grpc.aio.Server:
        others = server_ids()
        shares_port = self._shares_port or self._config.grpcio_acceptors > 1
        server, own = self._make_server(server_options(self._config, shares_port=shares_port))
        [number] = server_ids() - others
        arrivals = Arrivals(number)
        self._arrivals.append(arrivals)
        if own is not None:
            own.arrivals = arrivals
            self._acceptors.append(own)
        server.add_generic_rpc_handlers((arrivals,))
        server.add_generic_rpc_handlers(self._generic if own is not None else self._handlers.generic)
        return server

    def _make_server(self, options: Sequence[tuple[str, int]]) -> tuple[grpc.aio.Server, Acceptor | None]:
        """Make a server whose connections take turns, or one of grpcio's own where that cannot be done."""
        try:
            from samplerd_server.transport.grpcio.acceptor import make_server  # noqa: PLC0415  # it may not be known
        except (AttributeError, ImportError):  # this grpcio has not what it needs
            return grpc.aio.server(options=options), None
        most_open = self._config.max_concurrent_streams
        return make_server(options, self._lines, self._resets, self._observer.refuse_unseen, most_open)

    @property
    def waiting(self) -> int:
        """Calls that have come and have not begun; of those that wait in grpcio, as of the last sample."""
        return self._sampler.waited_lately + (self._lines.waiting if self._servers else 0)

    @property
    def connections(self) -> int:
        """Connections of clients."""
        return self._sampler.connections

    @property
    def dropped(self) -> int:
        """Calls that ended in grpcio before their handlers could begin, since the start."""
        return sum(own.dropped for own in self._arrivals)

    @property
    def unread(self) -> int:
        """Calls that grpcio handed over and whose messages never came whole, since the start."""
        return sum(own.unread for own in self._arrivals)

    async def drain(self) -> bool:
        """Refuse new calls, finish those in flight; returns whether all finished within the drain grace.

        Stopped, grpcio tells each client to go and waits until it has said that it has read so far. What is answered
        before that is therefore read before the connection is closed, which is not sure of what is answered later: a
        close discards what the client has not read if it sends anything in the meantime, as it does while it reads.
        """
        if not self._servers:
            return True
        grace = self._config.drain_grace_s
        end = asyncio.get_running_loop().time() + grace
        # A call that waits for the goodbye is refused once, and then goes elsewhere. So what comes waits, unless what
        # is in flight takes longer.
        self._lines.close()
        await self._begin_last()
        self._handlers.drain()
        begun = self._answering
        finishing = asyncio.create_task(self._finish())
        await asyncio.wait({finishing}, timeout=min(_QUIET_S, grace / 2))
        if not finishing.done():
            self._lines.open()
            await asyncio.wait({finishing}, timeout=min(FINISH_FIRST_S, grace / 2))
        # They need what their clients send: windows, pings and cancellations. Calls that began since are refused.
        running = set() if finishing.done() else {call.connection for call in begun if not call.has_ended}
        await self._hold_calls()
        stop_reading(self.addresses)
        await self._take_over()
        left = max(0.0, end - asyncio.get_running_loop().time())
        stopping = [asyncio.ensure_future(server.stop(left)) for server in self._servers]
        while any(own.is_running() for own in self._acceptors):  # noqa: ASYNC110  # a turn or two
            await asyncio.sleep(0)
        for own in self._acceptors[:1]:
            own.refuse_all(self._lines.clear())
        read_again(self.addresses, running)
        goodbye = asyncio.create_task(self._say_goodbye(running, min(left, _DELIVER_S)))
        done, _ = await asyncio.wait({finishing}, timeout=left)
        await goodbye
        self._sampler.stop()
        # What is left are calls beyond the grace, and messages that never came whole, which nobody waits for.
        late = {task for task in (finishing, *stopping) if not task.done()}
        if late:
            await asyncio.wait(late, timeout=_KILL_AFTER_S)
        for task in late:
            task.cancel()
        return bool(done)

    async def _say_goodbye(self, running: set[str], deliver_s: float) -> None:
        """End the connections that clients do not close, once the last refusals are written.

        Args:
            running: peers whose calls still run; "" = some that the transport has not asked for.
            deliver_s: in which what was written has to arrive.

        """
        for _ in range(_TRIES):
            if not any(own.refusing for own in self._acceptors):
                break
            await asyncio.sleep(_POLL_S)
        await end_connections(self.addresses, _LEAVE_S, deliver_s, running)

    async def _begin_last(self) -> None:
        """Let the handlers of calls begin that are being read, if their messages come soon."""
        for _ in range(_LAST_TRIES):
            if not self._lines.reading:
                return
            await asyncio.sleep(_POLL_S)

    async def _finish(self) -> None:
        """Wait for the handlers, end the streams that only their clients would end, and wait for the last replies."""
        await self._observer.wait_idle()
        self._handlers.close()
        # What begins later is refused, however much of it there is.
        answering = self._answering
        # Polled, so that no call pays for an event.
        while not all(call.has_ended for call in answering):  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)

    async def _hold_calls(self) -> None:
        """Let no call begin, and wait until no more come.

        Stopped, grpcio ends calls that come as CANCELLED. Callers that wait for an answer send no other call until they
        are refused, which is once grpcio has told them to go.
        """
        self._lines.close()
        # Those that grpcio has not accepted yet are found among the others afterwards.
        silence_new(self.addresses)
        for _ in range(_QUIET_TURNS):
            came = self._came
            await asyncio.sleep(_QUIET_S)
            if self._came == came and not self._sampler.waiting:
                return

    async def _take_over(self) -> None:
        """Wait until grpcio has handed over all calls that it has read; others it would end as CANCELLED."""
        for _ in range(_TRIES):
            came = self._came
            await asyncio.sleep(_POLL_S)
            if self._came == came and not self._sampler.waiting:
                return

    @property
    def _answering(self) -> list[Arrival]:
        """The calls that are being answered."""
        return [call for own in self._arrivals for call in own.answering]

    @property
    def _came(self) -> int:
        """Calls that have come, since the start; once lines are closed, they give up none that wait."""
        return self._observer.begun + self._lines.waiting


def _with_streams(handlers: Sequence[grpc.GenericRpcHandler]) -> Sequence[grpc.GenericRpcHandler]:
    """Let streams read and write what is there in one go; give the same handlers where this grpcio cannot do that."""
    try:
        from samplerd_server.transport.grpcio.stream_handlers import StreamHandlers  # noqa: PLC0415  # may not be known
    except (AttributeError, ImportError):  # this grpcio has not what it needs
        return handlers
    return tuple(map(StreamHandlers, handlers))
