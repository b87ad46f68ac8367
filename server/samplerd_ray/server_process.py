"""One samplerd as a child process: its command line, its start, its health and its end. Event loop of the replica."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import tempfile
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Sequence

__all__ = ["ServerProcess", "StartError", "command_of"]

_PR_SET_PDEATHSIG = 1
_DRAIN_DELAY_S = 3
"""Longer than two of the health checks of deploy/envoy, so that calls go elsewhere before they are refused."""
_LAST_LINES_S = 1.0
"""How long the log is read on after the end of the process: children of it may hold the pipe."""
_ANSWER_S = 4.0
"""Less than Ray Serve waits for a health check."""


class StartError(RuntimeError):
    """Expected: samplerd ended before it served; the text is what it said last."""


def command_of(program: str | None, hosts: tuple[str, str], threads: int, flags: Sequence[str]) -> list[str]:
    """Return the command of a replica's samplerd; flags that the operator gave come last, and win.

    Args:
        program: path of samplerd; None = that of this Python.
        hosts: address of the node for calls, and that for metrics.
        threads: CPU threads that draw.
        flags: the operator's.

    """
    start = [sys.executable, "-m", "samplerd_server"] if program is None else [program]
    calls, metrics = (f"[{host}]:0" if ":" in host else f"{host}:0" for host in hosts)
    defaults = {"--threads": str(threads), "--drain-delay": f"{_DRAIN_DELAY_S}s"}
    given = {flag.partition("=")[0] for flag in flags}
    return [
        *start,
        *("--listen", calls, "--metrics-listen", metrics, "--log-format", "json"),
        # What is kept for all replicas must not end on one of them.
        *("--distribution-ttl", "0s"),
        *(word for name, value in defaults.items() if name not in given for word in (name, value)),
        *flags,
    ]


def _end_with_parent() -> None:
    """Ask Linux for SIGTERM when the replica's process dies: samplerd then drains, and no orphan stays."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _parsed(line: str) -> dict[str, str]:
    """Return the fields of a line of the log; none of a line that something else wrote."""
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


class ServerProcess:
    """Starts samplerd on `start`, stops it on `stop`."""

    def __init__(self, command: Sequence[str]) -> None:
        # In a folder that nobody else may enter: it needs no certificate.
        self._folder = tempfile.TemporaryDirectory(prefix="samplerd-ray-", ignore_cleanup_errors=True)
        self.socket = f"unix:{self._folder.name}/socket"
        """A second address of it, for calls from this node alone."""
        self._command = [*command, "--listen", self.socket]
        self._process: Process | None = None
        self._pidfd: int | None = None
        """Becomes readable when the process ends, whoever else holds its log."""
        self.doing = "starting"
        """What it does until it serves, as its log says."""
        self.address = ""
        """host:port of gRPC, once it has started."""
        self.metrics = ""
        """host:port of /metrics."""

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None, "samplerd was not started. This is a bug."
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        return None if self._process is None else self._process.returncode

    async def start(self) -> None:
        """Start it; returns once it serves.

        Raises:
            StartError: it ended instead.

        """
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            preexec_fn=_end_with_parent,
        )
        with contextlib.suppress(OSError):  # Linux has it from 5.3 on; without it the end of the log tells
            self._pidfd = os.pidfd_open(self._process.pid)
        last = "it said nothing"
        while line := await self.read_log():
            last = line
            said = _parsed(line)
            if said.get("message") == "serving":
                self.address, self.metrics = said["listen"].partition(",")[0], said["metrics"]
                return
            self.doing = ", ".join(said[name] for name in ("message", "done") if name in said) or self.doing
        status = await self._process.wait()
        self._close()
        raise StartError(f"samplerd ended with status {status} before it served: {last}")

    async def read_log(self) -> str:
        """Return the next line of its log, which is copied to this process's own; "" once it has ended."""
        assert self._process is not None, "samplerd was not started. This is a bug."
        assert self._process.stderr is not None, "its log is no pipe. This is a bug."
        line = (await self._process.stderr.readline()).decode(errors="replace")
        sys.stderr.write(line)
        return line.rstrip("\n") or ("\n" if line else "")

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended."""
        if self._pidfd is None:
            return self.status is not None
        return bool(select.select([self._pidfd], [], [], 0)[0])

    async def watch(self) -> None:
        """Copy the log until the process has ended."""
        if self._pidfd is None:
            await self._copy_log()
            return
        loop = asyncio.get_running_loop()
        has_ended = asyncio.Event()
        reading = asyncio.create_task(self._copy_log())
        loop.add_reader(self._pidfd, has_ended.set)
        try:
            await has_ended.wait()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reading, _LAST_LINES_S)
        finally:
            loop.remove_reader(self._pidfd)
            reading.cancel()

    async def _copy_log(self) -> None:
        while await self.read_log():
            pass

    def _close(self) -> None:
        self._folder.cleanup()
        # A child may hold the log for longer, and asyncio has no public way to let go of a pipe.
        transport = getattr(self._process, "_transport", None)
        if transport is not None:
            transport.close()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None

    async def is_well(self, page: str) -> bool | None:
        """Return what /livez or /readyz says; None if it does not answer in time."""
        answer = await asyncio.to_thread(self._get, page)
        return answer if answer is None else answer != ""

    async def metrics_page(self) -> str:
        """Return the page of metrics; "" if it does not answer in time."""
        return await asyncio.to_thread(self._get, "/metrics") or ""

    def _get(self, page: str) -> str | None:
        """Get a page: its text, "" if it says no, None if nothing comes in time."""
        try:
            with urllib.request.urlopen(f"http://{self.metrics}{page}", timeout=_ANSWER_S) as reply:
                return reply.read().decode() or "\n"
        except urllib.error.HTTPError:
            return ""
        except OSError:
            return None

    async def stop(self) -> None:
        """Let it drain and end."""
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended just now
                process.terminate()
            await self.watch()  # without a reader it would wait for room in the pipe
            with contextlib.suppress(TimeoutError):  # newer versions of Python wait for the end of the pipe, too
                await asyncio.wait_for(process.wait(), _LAST_LINES_S)
        self._close()
        await asyncio.sleep(0)  # the pipe is closed in the loop's next turn
