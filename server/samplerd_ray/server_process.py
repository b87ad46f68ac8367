"""One samplerd as a child process: its command line, its start, its health and its end. Event loop of the replica."""

from __future__ import annotations

import asyncio
import ctypes
import json
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
_ANSWER_S = 4.0
"""Less than Ray Serve waits for a health check."""


class StartError(RuntimeError):
    """Expected: samplerd ended before it served; the text is what it said last."""


def command_of(program: str | None, host: str, threads: int, flags: Sequence[str]) -> list[str]:
    """Return the command of a replica's samplerd; flags that the operator gave come last, and win.

    Args:
        program: path of samplerd; None = that of this Python.
        host: address of the node.
        threads: CPU threads that draw.
        flags: the operator's.

    """
    start = [sys.executable, "-m", "samplerd_server"] if program is None else [program]
    own = f"[{host}]" if ":" in host else host
    defaults = {"--threads": str(threads), "--drain-delay": f"{_DRAIN_DELAY_S}s"}
    given = {flag.partition("=")[0] for flag in flags}
    return [
        *start,
        *("--listen", f"{own}:0", "--metrics-listen", "127.0.0.1:0", "--log-format", "json"),
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
        last = "it said nothing"
        while line := await self.read_log():
            last = line
            said = _parsed(line)
            if said.get("message") == "serving":
                self.address, self.metrics = said["listen"].partition(",")[0], said["metrics"]
                return
        status = await self._process.wait()
        self._folder.cleanup()
        raise StartError(f"samplerd ended with status {status} before it served: {last}")

    async def read_log(self) -> str:
        """Return the next line of its log, which is copied to this process's own; "" once it has ended."""
        assert self._process is not None, "samplerd was not started. This is a bug."
        assert self._process.stderr is not None, "its log is no pipe. This is a bug."
        line = (await self._process.stderr.readline()).decode(errors="replace")
        sys.stderr.write(line)
        return line.rstrip("\n") or ("\n" if line else "")

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
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            while await self.read_log():  # or it would wait for room in the pipe
                pass
            await self._process.wait()
        self._folder.cleanup()
