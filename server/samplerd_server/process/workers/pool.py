"""The pool of workers: started together, each started again when it dies, all drained at once.

A slot is one worker and the processes that replace it. Rule 1: one task runs one slot, from its first process to its
last. Rule 2: a pool that has never served fails with the cause; one that has served never gives up, it only waits
longer before each start. Rule 3: only `drain` ends it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import signal
import socket
import time
from typing import TYPE_CHECKING

from samplerd_server.config import DOOR, ENGINE, WORKER, WorkerConfig
from samplerd_server.config.handoff import write_handoff
from samplerd_server.process.log import event
from samplerd_server.process.watchdog import Progress, StallDetector
from samplerd_server.process.workers.process import SILENT_S, WorkerProcess, tick_of
from samplerd_server.process.workers.restarts import Backoff

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from samplerd_server.config import ServerConfig
    from samplerd_server.process.workers.aggregator import MetricsAggregator

__all__ = ["WorkerPool", "WorkersError", "roles_of"]

_LOG = logging.getLogger("samplerd")
_TRIES = 3
"""Starts in a row of which each may end before it serves: one or two failures can be chance."""
_OWN_S = 5.0
"""Time beyond --stall-limit in which a worker's own watchdog may end it, which answers its callers first."""
_EXPECTED = 2
"""The exit code of a server that has reported why it cannot start; another start would fail too."""
_STOP_S = 15.0
"""Time beyond the grace in which a worker must end: to notice, to abandon what the device still computes, to exit."""


class WorkersError(Exception):
    """Expected: the workers cannot start."""


class _Slot:
    """One worker, door or engine: the process that runs now, and what is known of those before it."""

    def __init__(self, index: int, role: str) -> None:
        self.index = index
        self.role = role
        self.title = "the engine" if role == ENGINE else f"{role} {index}"
        self.labels = {} if role == ENGINE else {role: index}
        """What tells it apart in the log."""
        self.process = WorkerProcess(index)
        self.starts = 0
        self.failures = 0
        """Starts in a row that ended before they served."""
        self.task: asyncio.Task[None] | None = None
        """Runs it; None = it was not started."""
        self.was_warm = asyncio.Event()
        self.has_served = asyncio.Event()


class WorkerPool:
    """All workers of one supervisor. On the event loop."""

    def __init__(
        self, config: ServerConfig, aggregator: MetricsAggregator, folder: Path, environment: Mapping[str, str]
    ) -> None:
        self._config = config
        self._aggregator = aggregator
        self._folder = folder
        self._distributions = folder / "distributions"
        self._environment = environment
        self._started_at_s = time.time()
        self._epoch_s = self._started_at_s - time.monotonic()
        self._slots = [_Slot(index, role) for index, role in enumerate(roles_of(config))]
        self._fronts = [slot for slot in self._slots if slot.role != ENGINE]
        """Those that callers connect to."""
        self._behind = [slot for slot in self._slots if slot.role == ENGINE]
        self._tasks: list[asyncio.Task[None]] = []
        self._may_listen = asyncio.Event()
        self._has_started = False
        self._draining = asyncio.Event()

    async def start(self) -> None:
        """Start all workers; returns once all of them serve.

        Raises:
            WorkersError: one of them cannot.

        """
        self._distributions.mkdir(mode=0o700)
        for slot in self._behind:
            self._run_in_background(slot)
            await self._wait_for(slot.has_served)
        first, *others = self._fronts
        # The first starts alone: it compiles kernels for all if they must be, and it alone reports that none can start.
        self._run_in_background(first)
        await self._wait_for(first.was_warm)
        for slot in others:
            self._run_in_background(slot)
        for slot in others:
            await self._wait_for(slot.was_warm)
        self._may_listen.set()
        for slot in self._slots:
            await self._wait_for(slot.has_served)
        self._has_started = True

    def reason(self) -> str:
        """Say why no request is answered; empty = a worker serves. On any thread."""
        if self._draining.is_set():
            return "draining"
        limit_s = self._config.engine.stall_limit_s
        if any(_serves(slot) and slot.process.is_silent(limit_s) for slot in self._behind):
            return f"the engine has not answered for {SILENT_S:g} s"
        why = "" if self._has_started else "; kernels that no cache holds are compiled first, which takes minutes"
        if not all(_serves(slot) for slot in self._behind):
            return f"the engine does not serve{why}"
        serving = [slot for slot in self._fronts if _serves(slot)]
        if serving and all(slot.process.is_silent(limit_s) for slot in serving):
            return f"no {serving[0].role} has answered for {SILENT_S:g} s"
        if serving:
            return ""
        return f"none of {len(self._fronts)} {self._fronts[0].role}s serves{why}"

    async def watch(self) -> None:
        """Wait for a slot's task to fail, which is a bug: its exception is raised here."""
        await self._wait_for(asyncio.Event())

    def serves(self) -> dict[str, object]:
        """Give what the first worker reported when it began to serve; the others are like it."""
        return dict(self._fronts[0].process.serves)

    async def drain(self, hurry: asyncio.Event) -> bool:
        """Drain all workers at once; returns whether every request in flight finished within the grace.

        Doors end first, then the engine.

        A worker that had ended before has no requests in flight: it is none of those that are drained.

        Args:
            hurry: ends them at once when it is set.

        """
        self._draining.set()
        ended_before = {slot.process for slot in self._slots if slot.process.has_ended.is_set()}
        for slot in self._fronts:
            slot.process.drain()
        hurry_set = asyncio.ensure_future(hurry.wait())
        ended = asyncio.ensure_future(self._wait_for_ends())
        transport = self._config.transport
        timeout_s = transport.drain_delay_s + transport.drain_grace_s + _STOP_S
        await asyncio.wait({ended, hurry_set}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        hurry_set.cancel()
        for slot in self._slots:
            slot.process.kill()
        await ended
        drained = {slot.process for slot in self._slots} - ended_before
        return all(process.is_clean or not process.is_serving.is_set() for process in drained)

    async def _wait_for_ends(self) -> None:
        # Their exceptions are not raised here: `start` raises the first, and the others say the same.
        await asyncio.gather(*(slot.task for slot in self._fronts if slot.task), return_exceptions=True)
        for slot in self._behind:
            slot.process.drain()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _run_in_background(self, slot: _Slot) -> None:
        slot.task = asyncio.create_task(self._run(slot))
        self._tasks.append(slot.task)

    async def _wait_for(self, happened: asyncio.Event) -> None:
        """Wait for an event, or raise what a slot's task raises before it."""
        waiting = asyncio.ensure_future(happened.wait())
        try:
            await asyncio.wait({waiting, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in self._tasks:
                if task.done():
                    task.result()
        finally:
            waiting.cancel()

    async def _run(self, slot: _Slot) -> None:
        """Run a slot: start a worker process, and another one whenever it ends."""
        backoff = Backoff()
        while True:
            process = await self._launch(slot)
            await _any(process.is_warm, process.has_ended)
            if process.is_warm.is_set():
                slot.was_warm.set()
            if process.is_warm.is_set() and slot.role != ENGINE:  # the engine begins as soon as it is warm
                await _any(self._may_listen, process.has_ended)
                process.go()
                await _any(process.is_serving, process.has_ended)
            if process.is_serving.is_set():
                slot.has_served.set()
                slot.failures = 0
            await self._watch_process(process)
            self._aggregator.ended(slot.index)
            if self._draining.is_set():
                return
            wait_s = backoff.died(process.served_s)
            self._report_end(slot, wait_s)
            if await _any(self._draining, timeout_s=wait_s):
                return

    async def _watch_process(self, process: WorkerProcess) -> None:
        """Wait for the end of a process, and kill one that serves and hangs: its own watchdog may hang with it."""
        limit_s = self._config.engine.stall_limit_s
        tick_s = tick_of(limit_s)
        detector = StallDetector(round((limit_s + _OWN_S) / tick_s)) if limit_s else None
        while not await _any(process.has_ended, timeout_s=tick_s):
            if not process.is_serving.is_set():
                continue
            process.ping()
            if detector is not None and detector.is_stalled(Progress(process.answers, is_busy=True)):
                process.cause = f"it has not answered for {limit_s + _OWN_S:g} s (--stall-limit)"
                process.kill()
                await process.has_ended.wait()

    async def _launch(self, slot: _Slot) -> WorkerProcess:
        path = self._folder / f"worker-{slot.index}"
        file, metrics = path.with_suffix(".toml"), path.with_suffix(f".{slot.starts}.metrics")
        slot.starts += 1
        slot.process = process = WorkerProcess(slot.index)
        try:
            ours, theirs = socket.socketpair()
            with theirs:
                write_handoff(dataclasses.replace(self._config, worker=self._describe(slot, theirs, metrics)), file)
                await process.start(file, ours, theirs.fileno(), self._environment)
        except OSError as error:  # also where no descriptor is left for the sockets
            process.fail(f"cannot start a process: {error.strerror}")
        self._aggregator.started(slot.index, metrics)
        if self._draining.is_set():
            process.drain()
        return process

    def _describe(self, slot: _Slot, control: socket.socket, metrics: Path) -> WorkerConfig:
        return WorkerConfig(
            index=slot.index,
            count=len(self._fronts),
            control=control.fileno(),
            metrics_socket=str(metrics) if self._config.metrics.listen else "",
            started_at_s=self._started_at_s,
            epoch_s=self._epoch_s,
            distributions=str(self._distributions),
            folder=str(self._folder),
            role=slot.role,
            engine_socket=str(self._folder / "engine.sock") if self._behind else "",
        )

    def _report_end(self, slot: _Slot, wait_s: float) -> None:
        """Log that a worker process has ended without being told to.

        Raises:
            WorkersError: the pool has not served yet, and another start would fail too.

        """
        process = slot.process
        why = process.cause or _exit(process.exit_code)
        if not process.is_serving.is_set():
            slot.failures += 1
            if not self._has_started and process.exit_code == _EXPECTED:
                raise WorkersError(f"{slot.title} cannot start: {why}")
            if not self._has_started and slot.failures == _TRIES:
                raise WorkersError(f"{slot.title} ended {_TRIES} times before it served: {why}")
        # Exit code 0 was requested from outside: a warning only.
        level = logging.ERROR if process.exit_code else logging.WARNING
        event(_LOG, level, f"{slot.role} ended", **slot.labels, why=why, starts_again_in=f"{wait_s:g}s")


def roles_of(config: ServerConfig) -> tuple[str, ...]:
    """Give the role of each process: workers, or doors and the engine behind them."""
    if config.workers.doors:
        return (*[DOOR] * config.workers.doors, ENGINE)
    return (WORKER,) * config.workers.count


def _serves(slot: _Slot) -> bool:
    return slot.process.is_serving.is_set() and not slot.process.has_ended.is_set()


def _exit(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


async def _any(*events: asyncio.Event, timeout_s: float | None = None) -> bool:
    """Wait until one of the events is set, or until the timeout; returns whether one is set."""
    waiting = [asyncio.ensure_future(one.wait()) for one in events]
    try:
        done, _ = await asyncio.wait(waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)
    finally:
        for one in waiting:
            one.cancel()
