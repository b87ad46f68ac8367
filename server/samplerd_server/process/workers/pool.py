"""The workers as a team: started together, each brought back when it dies, drained at once.

Rule 1: one task keeps one seat, from its first worker to the last. Rule 2: a team that never served fails with the
cause; one that has served never gives up, it waits longer. Rule 3: only `drain` ends it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import signal
import socket
import time
from typing import TYPE_CHECKING

from samplerd_server.config import WorkerConfig
from samplerd_server.config.handoff import write_handoff
from samplerd_server.process.log import event
from samplerd_server.process.workers.process import WorkerProcess
from samplerd_server.process.workers.restarts import Backoff

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from samplerd_server.config import ServerConfig
    from samplerd_server.process.workers.aggregator import MetricsAggregator

__all__ = ["WorkerPool", "WorkersError"]

_LOG = logging.getLogger("samplerd")
_TRIES = 3
"""Starts in a row that may end before the first request: one or two can be chance."""
_EXPECTED = 2
"""The exit code of a server that says why it cannot start; trying again changes nothing."""
_STOP_S = 15.0
"""What a worker may take beyond the grace: to notice, to leave what the device still computes, to end."""


class WorkersError(Exception):
    """Expected: the workers cannot start."""


class _Seat:
    """The place of one worker and its successors."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.process = WorkerProcess(index)
        self.starts = 0
        self.failures = 0
        """Starts in a row that ended before they served."""
        self.was_warm = asyncio.Event()
        self.has_served = asyncio.Event()


class WorkerPool:
    """All workers of one supervisor. On the event loop."""

    def __init__(
        self, config: ServerConfig, census: MetricsAggregator, folder: Path, variables: Mapping[str, str]
    ) -> None:
        self._config = config
        self._census = census
        self._folder = folder
        self._distributions = folder / "distributions"
        self._variables = variables
        self._started_at_s = time.time()
        self._seats = [_Seat(index) for index in range(config.workers.count)]
        self._keepers: list[asyncio.Task[None]] = []
        self._may_listen = asyncio.Event()
        self._has_started = False
        self._draining = asyncio.Event()

    async def start(self) -> None:
        """Start all; returns once all serve.

        Raises:
            WorkersError: one of them cannot.

        """
        self._distributions.mkdir(mode=0o700)
        first, *others = self._seats
        # Alone: if kernels must be compiled, one worker does it for all; if nothing can start, one says so.
        self._seat(first)
        await self._until(first.was_warm)
        for seat in others:
            self._seat(seat)
        for seat in others:
            await self._until(seat.was_warm)
        self._may_listen.set()
        for seat in self._seats:
            await self._until(seat.has_served)
        self._has_started = True

    async def watch(self) -> None:
        """Wait for a keeper that fails, which is a bug of ours: whoever waits here hears of it."""
        await self._until(asyncio.Event())

    def serves(self) -> dict[str, object]:
        """Give what the first worker said of itself; the others are like it."""
        return dict(self._seats[0].process.serves)

    async def drain(self, hurry: asyncio.Event) -> bool:
        """Drain all at once; returns whether all that was in flight finished within the grace.

        Args:
            hurry: ends them at once when it is set.

        """
        self._draining.set()
        for seat in self._seats:
            seat.process.drain()
        hurrying = asyncio.ensure_future(hurry.wait())
        keeping = asyncio.ensure_future(self._settle())
        timeout_s = self._config.transport.drain_grace_s + _STOP_S
        await asyncio.wait({keeping, hurrying}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        hurrying.cancel()
        for seat in self._seats:
            seat.process.kill()
        await keeping
        return all(seat.process.is_clean or not seat.process.is_serving.is_set() for seat in self._seats)

    async def _settle(self) -> None:
        # With their exceptions: `start` raises the first, and the others say the same.
        await asyncio.gather(*self._keepers, return_exceptions=True)

    def _seat(self, seat: _Seat) -> None:
        self._keepers.append(asyncio.create_task(self._keep(seat)))

    async def _until(self, happened: asyncio.Event) -> None:
        """Wait for an event, or for a keeper that fails instead."""
        waiting = asyncio.ensure_future(happened.wait())
        try:
            await asyncio.wait({waiting, *self._keepers}, return_when=asyncio.FIRST_COMPLETED)
            for keeper in self._keepers:
                if keeper.done():
                    keeper.result()
        finally:
            waiting.cancel()

    async def _keep(self, seat: _Seat) -> None:
        """Hold a seat: start a worker, and another whenever it ends."""
        backoff = Backoff()
        while True:
            process = await self._launch(seat)
            await _any(process.is_warm, process.has_ended)
            if process.is_warm.is_set():
                seat.was_warm.set()
                await _any(self._may_listen, process.has_ended)
                process.go()
                await _any(process.is_serving, process.has_ended)
            if process.is_serving.is_set():
                seat.has_served.set()
                seat.failures = 0
            await process.has_ended.wait()
            self._census.ended(seat.index)
            if self._draining.is_set():
                return
            wait_s = backoff.died(process.served_s)
            self._lament(seat, wait_s)
            if await _any(self._draining, timeout_s=wait_s):
                return

    async def _launch(self, seat: _Seat) -> WorkerProcess:
        path = self._folder / f"worker-{seat.index}"
        file, metrics = path.with_suffix(".toml"), path.with_suffix(f".{seat.starts}.metrics")
        seat.starts += 1
        seat.process = process = WorkerProcess(seat.index)
        ours, theirs = socket.socketpair()
        try:
            write_handoff(dataclasses.replace(self._config, worker=self._describe(seat, theirs, metrics)), file)
            await process.start(file, ours, theirs.fileno(), self._variables)
        except OSError as error:
            ours.close()
            process.fail(f"cannot start a process: {error.strerror}")
        finally:
            theirs.close()
        self._census.started(seat.index, metrics)
        if self._draining.is_set():
            process.drain()
        return process

    def _describe(self, seat: _Seat, control: socket.socket, metrics: Path) -> WorkerConfig:
        return WorkerConfig(
            index=seat.index,
            count=len(self._seats),
            control=control.fileno(),
            metrics_socket=str(metrics) if self._config.metrics.listen else "",
            started_at_s=self._started_at_s,
            distributions=str(self._distributions),
            folder=str(self._folder),
        )

    def _lament(self, seat: _Seat, wait_s: float) -> None:
        """Say that a worker has ended unasked.

        Raises:
            WorkersError: the team has not served yet, and trying again is of no use.

        """
        process = seat.process
        why = process.cause or _exit(process.exit_code)
        if not process.is_serving.is_set():
            seat.failures += 1
            if not self._has_started and process.exit_code == _EXPECTED:
                raise WorkersError(f"worker {seat.index} cannot start: {why}")
            if not self._has_started and seat.failures == _TRIES:
                raise WorkersError(f"worker {seat.index} ended {_TRIES} times before it served: {why}")
        # One that ended well was asked to by somebody else, who may have his reasons.
        level = logging.ERROR if process.exit_code else logging.WARNING
        event(_LOG, level, "worker ended", worker=seat.index, why=why, starts_again_in=f"{wait_s:g}s")


def _exit(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


async def _any(*events: asyncio.Event, timeout_s: float | None = None) -> bool:
    """Wait until one of the events has happened, or for so many seconds; returns whether one has."""
    waiting = [asyncio.ensure_future(one.wait()) for one in events]
    try:
        done, _ = await asyncio.wait(waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)
    finally:
        for one in waiting:
            one.cancel()
