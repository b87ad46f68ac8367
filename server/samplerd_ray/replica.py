"""A replica: one samplerd, and what Ray Serve asks of it. An actor of Ray runs it, on the actor's event loop.

Rule 1: it is listed once its samplerd holds every kept distribution, unless samplerd says that it is not ready. Rule
2: where samplerd has ended by itself, the replica starts another one at once, which takes a fraction of the time that
Ray needs for another replica. Where that one does not start, or has ended soon, the replica ends too, and Ray Serve
starts another replica, perhaps elsewhere, and more and more slowly.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

from samplerd_ray.autoscaling import Load
from samplerd_ray.directory import TELL_S, Place
from samplerd_ray.server_process import ServerProcess, StartError, command_of
from samplerd_ray.uploads import Uploads

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Directory", "Replica", "until_next_tell"]

_ENDED = 3
_START_S = 120.0
"""A samplerd that is started again must serve within this time: its kernels were compiled at the first start."""
_SOON_S = 30.0
"""A samplerd that was started again and ends within this time would end again and again: it is left to Ray Serve."""


class Directory(Protocol):
    """The directory as a replica calls it, from another process: `directory.Directory` says what each does."""

    async def tell(
        self, place: dict[str, Any], held: dict[str, int], refused: dict[str, tuple[int, str]], *, is_ready: bool
    ) -> tuple[dict[str, tuple[int, list[Any]]], list[str]]:
        """Take note of a replica, and say what it lacks and what it is to delete."""

    async def fetch(self, stored: list[Any]) -> bytes:
        """Bring the bytes of an upload to this node."""

    async def note_start(self, replica: str, doing: str) -> None:
        """Take note of what a samplerd does that does not serve yet."""

    async def leave(self, replica: str) -> None:
        """Take a replica out that is about to end."""


class Replica:
    """Starts on `start`, ends on `stop`."""

    def __init__(self, name: str, node: str, host: str, directory: Directory) -> None:
        self._name, self._node, self._host = name, node, host
        self._directory = directory
        self._server: ServerProcess | None = None
        self._uploads: Uploads | None = None
        self._command: list[str] = []
        self._load = Load(1.0)
        self._began = self._started = 0.0
        """When samplerd was started, and when it began to serve, in seconds on the monotonic clock."""
        self._is_starting = False
        """Whether samplerd has ended and another one is being started."""
        self._telling: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(
        self, program: str | None, cpus: float, flags: Sequence[str], *, shows_metrics: bool = False
    ) -> None:
        """Start samplerd, and tell the directory once it serves.

        Raises:
            StartError: it does not start.

        """
        metrics_host = self._host if shows_metrics else "127.0.0.1"
        self._command = command_of(program, (self._host, metrics_host), max(1, math.floor(cpus)), flags)
        self._load = Load(cpus)
        await self._start_server()
        self._tasks = [asyncio.create_task(self._watch())]

    async def _start_server(self) -> None:
        """Start samplerd, and tell of it from then on."""
        self._began = time.monotonic()
        self._server = ServerProcess(self._command)
        noting = asyncio.create_task(self._note_start(self._server))
        try:
            await self._server.start()
        finally:
            noting.cancel()
        self._started = time.monotonic()
        self._uploads = Uploads(self._server.socket)
        self._load = Load(self._load.cpus)
        self._telling = asyncio.create_task(self._keep_telling())
        took_s = self._started - self._began
        _say(f"samplerd {self._server.pid} serves on {self._server.address}, {took_s:.1f} s after its start")

    async def _note_start(self, server: ServerProcess) -> None:
        """Tell what samplerd does until it serves. The first call also connects, which takes long on a busy node."""
        while True:
            with contextlib.suppress(Exception):
                await self._directory.note_start(self._name, server.doing)
            await asyncio.sleep(TELL_S)

    @property
    def server(self) -> ServerProcess:
        """Its samplerd."""
        assert self._server is not None, "the replica was not started. This is a bug."
        return self._server

    async def _keep_telling(self) -> None:
        place = Place(
            replica=self._name,
            address=self.server.address,
            metrics=self.server.metrics,
            node=self._node,
            actor_pid=os.getpid(),
            samplerd_pid=self.server.pid,
        )
        is_complete = is_listed = False
        sync: asyncio.Task[bool] | None = None
        try:
            while True:
                # One that is too busy to answer stays in the list: if it hangs, its health check fails.
                is_ready = is_complete and await self.server.is_well("/readyz") is not False
                try:
                    if not is_ready:
                        await self._directory.leave(self._name)
                    lacking, gone = await self._directory.tell(
                        asdict(place), dict(self.uploads.held), dict(self.uploads.refused), is_ready=is_ready
                    )
                except Exception as error:  # noqa: BLE001  # the directory is away, and comes back
                    _say(f"the directory does not answer: {error!r}")
                    await asyncio.sleep(TELL_S)
                    continue
                if is_ready and not is_listed:
                    is_listed = True
                    _say(f"listed {time.monotonic() - self._began:.1f} s after the start of samplerd")
                # A long upload must not keep the replica from telling that it is there.
                if sync is None or sync.done():
                    was_complete, is_complete = is_complete, is_complete or not lacking
                    sync = asyncio.create_task(self._bring_up_to_date(lacking, gone)) if lacking or gone else None
                    if is_complete and not was_complete:
                        continue
                await until_next_tell(sync)
        finally:
            if sync is not None:
                sync.cancel()

    @property
    def uploads(self) -> Uploads:
        """What its samplerd holds for all replicas."""
        assert self._uploads is not None, "the replica was not started. This is a bug."
        return self._uploads

    async def _bring_up_to_date(self, lacking: dict[str, tuple[int, list[Any]]], gone: list[str]) -> bool:
        """Create what samplerd lacks, delete what was forgotten; False = it failed, and another try must come."""
        try:
            for name in gone:
                await self.uploads.delete(name)
            for name, (version, stored) in lacking.items():
                # It may have come while the directory was told otherwise.
                if self.uploads.held.get(name) != version:
                    await self.uploads.create(name, version, await self._directory.fetch(stored))
        except Exception as error:  # noqa: BLE001  # whatever it is, there is another try
            _say(f"a distribution did not come: {error!r}")
            return False
        return True

    async def _watch(self) -> None:
        """Read the log, which must not fill its pipe; where samplerd has ended, start another, or end."""
        was_started_again = False
        while True:
            await self.server.watch()
            self._is_starting = True
            lived_s = time.monotonic() - self._started
            _say(f"samplerd {self.server.pid} has ended after {lived_s:.0f} s")
            await self._stop_telling()
            if was_started_again and lived_s < _SOON_S:
                break
            was_started_again = True
            try:
                await self.server.stop()
                await asyncio.wait_for(self._start_server(), _START_S)
            except (OSError, StartError, TimeoutError) as error:
                _say(f"samplerd does not start again: {error!r}")
                break
            self._is_starting = False
        _say("the replica ends, since samplerd would not stay")
        os._exit(_ENDED)

    async def _stop_telling(self) -> None:
        """Take samplerd out of the directory."""
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._directory.leave(self._name), 1.0)
        if self._uploads is not None:
            await self._uploads.aclose()

    async def load(self) -> float:
        """Measure its load since the last call: `autoscaling` says what that is."""
        return self._load.of(await self.server.metrics_page(), time.monotonic())

    async def check_health(self) -> None:
        """Do nothing if samplerd lives.

        Raises:
            RuntimeError: it does not answer, or says that it must be replaced.

        """
        if not self._is_starting and not await self._lives():
            raise RuntimeError("samplerd does not answer /livez, or says that it should be started again")

    async def _lives(self) -> bool:
        """Whether samplerd says that it lives, or has ended, which `_watch` sees by itself."""
        server = self.server
        return bool(await server.is_well("/livez")) or server.has_ended

    async def stop(self) -> None:
        """Leave the directory, let samplerd drain, and end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stop_telling()
        if self._server is not None:
            await self._server.stop()


async def until_next_tell(sync: asyncio.Task[bool] | None) -> None:
    """Wait for `TELL_S`, or until all that samplerd lacked has come, which is told at once.

    Args:
        sync: brings what it lacks; its result says whether all has come.

    """
    if sync is not None:
        done, _ = await asyncio.wait([sync], timeout=TELL_S)
        if not done or sync.result():
            return
    await asyncio.sleep(TELL_S)


def _say(text: str) -> None:
    sys.stderr.write(f"samplerd-ray: {text}\n")
