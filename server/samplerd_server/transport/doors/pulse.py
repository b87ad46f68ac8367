"""The pulse of the engine behind a door: whether it answers, though its connection stays open when it hangs.

Rule 1: time counts from the question, and only while this door's own event loop turns: a door that did not get to run
says nothing of the engine. Rule 2: an engine that has ended is not this module's: the link notices at once.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from samplerd_server.core.errors import SamplerdError
from samplerd_server.process.log import event
from samplerd_server.process.workers.process import SILENT_S

if TYPE_CHECKING:
    from samplerd_server.core.drawn import Drawn
    from samplerd_server.transport.doors.link import Link

__all__ = ["Pulse"]

_LOG = logging.getLogger("samplerd.transport")
_EVERY_S = 1.0
"""Seconds between an answer and the next question."""
_TICKS = 30
"""Parts of `SILENT_S` that are waited for one by one, so that a clock that jumps is not taken for silence."""


class Pulse:
    """Asks the engine once a second, and tells the link when it is silent and when it answers again."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to ask."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="samplerd pulse of the engine")

    def stop(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            if self._link.channel is None:  # asked all the same, it would be counted as a refused request
                continue
            asked = asyncio.ensure_future(self._link.drawn())
            try:
                await self._await_answer(asked)
            except SamplerdError:  # it has ended
                continue
            finally:
                asked.cancel()

    async def _await_answer(self, asked: asyncio.Future[Drawn]) -> None:
        """Wait for an answer, however long it takes.

        Raises:
            SamplerdError: the engine has ended.

        """
        for _ in range(_TICKS):
            await asyncio.wait({asked}, timeout=SILENT_S / _TICKS)
            if asked.done():
                asked.result()
                return
        event(_LOG, logging.WARNING, "the engine does not answer", seconds=SILENT_S)
        self._link.tell(is_there=False)
        await asked
        event(_LOG, logging.INFO, "the engine answers again")
        self._link.tell(is_there=True)
