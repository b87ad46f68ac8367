"""Faults under which a history is recorded, what may fail under each, and what may be left of a server afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samplerd.v1 import sampler_pb2 as pb
from tests.support.daemon import START_S, Daemon
from tests.support.faults import Faults
from tests.support.history import ALONE, CHUNK_SAMPLES, CUT, LARGE_SAMPLES, TOGETHER, History, Journal
from tests.support.history_callers import Callers
from tests.support.processes import Watched, children, descendants
from tests.support.served import WAIT_S, connect, stub

KINDS = (ALONE, TOGETHER, "unary", "unary", "stream", "large", "upload")
"""The callers of a history."""
_MEMORY = Path("/dev/shm")
_ENDS_S = 60.0


class Scene:
    """A server with its history: start it, let faults happen, end it, and see what is left."""

    def __init__(self, folder: Path, transport: str, workers: int) -> None:
        self._folder = folder
        self.transport = transport
        self.workers = workers
        faults = Faults(folder)
        self.journal = Journal(folder / "journal")
        faults.inject(self.journal.code)
        self.temporary = folder / "temporary"
        """Where the server makes its temporary folders."""
        self.temporary.mkdir()
        flags = (
            *("--transport", transport, "--workers", str(workers), "--max-distributions", "65536"),
            *("--chunk-samples", str(CHUNK_SAMPLES), "--max-samples-per-request", str(LARGE_SAMPLES)),
        )
        self.daemon = Daemon(*flags, env={**faults.environment, "TMPDIR": str(self.temporary)})
        self.daemon.forgiven.add("worker ended")
        self.history = History()
        self.pids: set[int] = set()
        """All processes that were seen."""
        self._watched: list[Watched] = []
        self._files: set[Path] = set()
        self.code: int | None = None
        """Exit code, once it has ended."""

    async def start(self) -> Callers:
        """Start the server; returns callers who are ready to begin."""
        await asyncio.to_thread(self.daemon.__enter__)
        assert self.journal.ready() == self.workers, "a server process draws without writing it down"
        callers = Callers(self.history, self.daemon.address, kinds=KINDS)
        await callers.prepare()
        self.look()
        return callers

    def look(self) -> None:
        """Note the processes that run now, and what they have in shared memory."""
        for pid in [self.daemon.process.pid, *descendants(self.daemon.process.pid)]:
            self._files |= _files_of(pid)
            if pid not in self.pids:
                with suppress(ProcessLookupError):  # it has just ended
                    self._watched.append(Watched([pid]))
                    self.pids.add(pid)

    async def replaced(self) -> None:
        """Wait until a worker that has ended has been replaced."""
        await asyncio.to_thread(self.daemon.wait_event, "worker serving", START_S)
        self.look()

    async def ended(self) -> None:
        """Wait until the server and all its processes have ended."""
        self.code = await asyncio.to_thread(self.daemon.wait)
        for own in self._watched:
            left = await asyncio.to_thread(own.wait, _ENDS_S)
            assert left == [], f"still runs: {left}"

    async def end(self) -> None:
        """Drain the server with nobody calling."""
        self.look()
        self.daemon.process.send_signal(signal.SIGTERM)
        await self.ended()

    def left(self) -> list[str]:
        """What is left of a server that has ended: files and held ports."""
        found = [str(path) for path in (*self.temporary.iterdir(), *self._files) if path.exists()]
        host, _, port = self.daemon.address.rpartition(":")
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections do not count
            try:
                probe.bind((host, int(port)))
            except OSError as error:
                found.append(f"{self.daemon.address}: {error}")
        return found

    async def uploaded(self, callers: Callers) -> list[str]:
        """Which distributions are not there that somebody was told are kept."""
        async with connect(self.daemon.address) as channel:
            there, token = set(), ""
            while True:
                page = await stub(channel).ListDistributions(
                    pb.ListDistributionsRequest(page_size=100, page_token=token), wait_for_ready=True, timeout=WAIT_S
                )
                there |= {own.name for own in page.distributions}
                token = page.next_page_token
                if not token:
                    return sorted(callers.kept - there)


def _files_of(pid: int) -> set[Path]:
    """What a process has open, mapped or among its arguments in shared memory, by the outermost folder."""
    try:
        texts = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]  # noqa: PTH115  # may be gone
        texts += [line.split()[-1] for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
        texts += Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:  # it has just ended
        return set()
    found = {Path(text).relative_to(_MEMORY).parts[0] for text in texts if text.startswith(f"{_MEMORY}/")}
    return {_MEMORY / name for name in found if (_MEMORY / name).exists()}


async def _signal_server(scene: Scene, callers: Callers, number: int) -> None:
    scene.look()
    scene.daemon.process.send_signal(number)
    await scene.ended()


async def _end_a_worker(scene: Scene, callers: Callers, number: int) -> None:
    workers = children(scene.daemon.process.pid)
    os.kill(workers[len(scene.pids) % len(workers)], number)
    await scene.replaced()
    await callers.more(50)


async def _kill_envoy(scene: Scene, callers: Callers) -> None:
    own = [pid for pid in descendants(scene.daemon.process.pid) if "envoy" in os.readlink(f"/proc/{pid}/exe")]  # noqa: PTH115  # no file is read
    os.kill(own[len(scene.pids) % len(own)], signal.SIGKILL)
    if scene.workers == 1:
        await scene.ended()
    else:
        await scene.replaced()
        await callers.more(50)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault, and what it may do to a call."""

    inject: Callable[[Scene, Callers], Coroutine[Any, Any, None]]
    workers: int
    kills: bool
    """Whether a process is killed, which may have drawn what it could not send."""
    ends: bool
    """Whether the server has ended afterwards."""
    exit_code: int = 0
    transports: tuple[str, ...] = ("grpcio", "envoy")
    cancels: bool = False
    """Whether grpcio may end an attempt as CANCELLED: one that crosses its goodbye."""

    def codes(self, transport: str) -> dict[str, set[str]]:
        """With which codes an attempt may fail, by kind of call."""
        unary = {"UNAVAILABLE"} | ({"CANCELLED"} if self.cancels and transport == "grpcio" else set())
        streams = unary | {f"{code} of the stream" for code in (CUT, *unary)}
        return {kind: streams if kind in {"stream", "large"} else unary for kind in KINDS}


FAULTS: dict[str, Fault] = {
    "SIGTERM": Fault(
        inject=lambda scene, callers: _signal_server(scene, callers, signal.SIGTERM),
        workers=1,
        kills=False,
        ends=True,
        cancels=True,
    ),
    "SIGINT with workers": Fault(
        inject=lambda scene, callers: _signal_server(scene, callers, signal.SIGINT),
        workers=2,
        kills=False,
        ends=True,
        cancels=True,
    ),
    "SIGTERM to a worker": Fault(
        inject=lambda scene, callers: _end_a_worker(scene, callers, signal.SIGTERM),
        workers=2,
        kills=False,
        ends=False,
        cancels=True,
    ),
    "kill -9 of a worker": Fault(
        inject=lambda scene, callers: _end_a_worker(scene, callers, signal.SIGKILL), workers=2, kills=True, ends=False
    ),
    "kill -9 of a worker's Envoy": Fault(inject=_kill_envoy, workers=2, kills=True, ends=False, transports=("envoy",)),
    "kill -9 of Envoy": Fault(inject=_kill_envoy, workers=1, kills=True, ends=True, exit_code=2, transports=("envoy",)),
    "kill -9 of the supervisor": Fault(
        inject=lambda scene, callers: _signal_server(scene, callers, signal.SIGKILL),
        workers=2,
        kills=True,
        ends=True,
        exit_code=-signal.SIGKILL,
        cancels=True,
    ),
    "kill -9 of Envoy's supervisor": Fault(
        inject=lambda scene, callers: _signal_server(scene, callers, signal.SIGKILL),
        workers=1,
        kills=True,
        ends=True,
        exit_code=-signal.SIGKILL,
        transports=("envoy",),
    ),
}
"""All faults by name."""


async def record(folder: Path, transport: str, name: str, seconds: float = 0.0) -> tuple[list[str], dict[str, Any]]:
    """Record a history in which a fault happens, once or for some seconds again and again; returns what is wrong, and
    counts."""
    fault = FAULTS[name]
    scene = Scene(folder, transport, fault.workers)
    callers = await scene.start()
    happened = 0
    end = time.monotonic() + seconds
    async with callers:
        while not happened or (time.monotonic() < end and not fault.ends):
            await fault.inject(scene, callers)
            happened += 1
    faults = [] if fault.ends else [f"{name} is not there" for name in await scene.uploaded(callers)]
    if not fault.ends:
        await scene.end()
    expected = fault.exit_code if fault.ends else 0
    if scene.code != expected:
        faults.append(f"exit code {scene.code} instead of {expected}:\n" + "\n".join(scene.daemon.log[-5:]))
    faults += [f"left behind: {path}" for path in scene.left()]
    drawn = scene.journal.drawn()
    faults += scene.history.check(drawn, codes=fault.codes(transport), killed=fault.kills)
    if not fault.ends:
        faults += scene.history.lost()
    return faults, {"happened": happened, **scene.history.summary(drawn)}
