"""The core of a door: the way to the engine, which has the queue, the batcher and the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplerd_server.process.heartbeat import Heartbeat
from samplerd_server.process.watchdog import Progress
from samplerd_server.transport.doors.pulse import Pulse

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from samplerd_server.core.drawn import Drawn
    from samplerd_server.core.errors import SamplerdError
    from samplerd_server.distributions.store import Store
    from samplerd_server.transport.codec.decode import Decoder
    from samplerd_server.transport.doors.link import Link
    from samplerd_server.transport.rpc.distributions import CreatesDistributions
    from samplerd_server.transport.rpc.submitter import Submitter

__all__ = ["RemoteCore"]


class RemoteCore:
    """`Core` of a door."""

    def __init__(self, link: Link, loop: AbstractEventLoop) -> None:
        self.entry = link
        self._heartbeat = Heartbeat(loop)
        self._pulse = Pulse(link)

    def make_uploads(self, store: Store, decoder: Decoder, submitter: Submitter) -> CreatesDistributions:  # noqa: ARG002
        """Give what takes uploads: the engine, which checks and keeps them."""
        return self.entry

    @property
    def in_flight(self) -> int:
        """Requests of this door that the engine has not answered."""
        return self.entry.in_flight

    async def drawn(self) -> Drawn:
        """Give what the engine has drawn since its start, for all doors."""
        return await self.entry.drawn()

    async def start(self) -> None:
        """Begin to beat, and to feel the engine's pulse."""
        self._heartbeat.start()
        self._pulse.start()

    def begin_stop(self) -> None:
        """Beat no more."""
        self._heartbeat.stop()
        self._pulse.stop()

    async def stop(self) -> bool:
        """Close the link; the device is the engine's to stop."""
        self.entry.close()
        return True

    def fail_all(self, error: SamplerdError) -> None:
        """Answer every request of this door with an error."""
        self.entry.fail_all(error)

    @property
    def loop_progress(self) -> Progress:
        """How often the event loop has beaten."""
        return Progress(self._heartbeat.beats, is_busy=True)

    @property
    def device_progress(self) -> Progress:
        """Nothing: a door has no device."""
        return Progress(0, is_busy=False)

    @property
    def turned_at(self) -> float:
        """When the event loop last beat."""
        return self._heartbeat.beat_at
