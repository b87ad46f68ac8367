"""One worker process: its start, the messages to and from it, and its end."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from samplerd_server.process.log import event

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["SILENT_S", "WorkerProcess", "tick_of"]

_LOG = logging.getLogger("samplerd")
_MOST_TICK_S = 1.0
"""Longest time between two pings of a worker."""
SILENT_S = 3.0
"""Time without an answer to a ping after which a worker is not ready."""


def tick_of(stall_limit_s: float) -> float:
    """Give the seconds between two pings of a worker; 0 = nothing watches for stalls."""
    return min(_MOST_TICK_S, stall_limit_s / 8 or _MOST_TICK_S)


class WorkerProcess:
    """A worker from its start to its end. On the event loop."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.is_warm = asyncio.Event()
        """Set once it waits for `go`, or serves already."""
        self.is_serving = asyncio.Event()
        self.has_ended = asyncio.Event()
        self.exit_code = 0
        """Exit code once it has ended; minus the number of the signal that killed it."""
        self.cause = ""
        """Why it could not start, as it reported."""
        self.answers = 0
        """Pings that it has answered."""
        self._pings = 0
        self.is_clean = False
        """Whether it has stopped, and every request in flight finished within the grace."""
        self.serves: dict[str, Any] = {}
        """What it reported when it began to serve: addresses, device and the like."""
        self._served_at = 0.0
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def pid(self) -> int:
        """Process id."""
        assert self._process is not None, "the worker was not started. This is a bug."
        return self._process.pid

    def is_silent(self, stall_limit_s: float) -> bool:
        """Whether pings of `SILENT_S` have no answer: counted, so that no clock that jumps looks like silence."""
        return self._pings - self.answers > max(1.0, SILENT_S / tick_of(stall_limit_s))

    @property
    def served_s(self) -> float:
        """Seconds since it began to serve; 0 if it never did."""
        return time.monotonic() - self._served_at if self._served_at else 0.0

    async def start(self, file: Path, control: socket.socket, theirs: int, environment: Mapping[str, str]) -> None:
        """Start the process.

        Args:
            file: its handoff file, with its configuration.
            control: this side of the control socket.
            theirs: the file descriptor of the other side, which the process inherits under the same number.
            environment: its environment variables.

        Raises:
            OSError: it cannot be started; the control socket is closed.

        """
        reader, self._writer = await asyncio.open_unix_connection(sock=control)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, *(f"-W{option}" for option in sys.warnoptions)),
                *("-m", "samplerd_server", "--worker", str(file)),
                stdin=asyncio.subprocess.DEVNULL,
                env=environment,
                pass_fds=(theirs,),
                # Ctrl-C in a terminal signals the whole process group, but only the supervisor may begin the drain.
                start_new_session=True,
            )
        except OSError:
            self._writer.close()
            raise
        self._tasks = [asyncio.create_task(self._read_messages(reader)), asyncio.create_task(self._wait())]

    def fail(self, cause: str) -> None:
        """Take note that the process could not be started at all."""
        self.cause, self.exit_code = cause, 1
        self.has_ended.set()

    def go(self) -> None:
        """Tell it to listen."""
        self._tell(b"go\n")

    def ping(self) -> None:
        """Ask it for an answer, which `answers` counts."""
        self._pings += 1
        self._tell(b"ping\n")

    def _tell(self, message: bytes) -> None:
        assert self._writer is not None, "the worker was not started. This is a bug."
        if not self._writer.is_closing():  # it is once the process has ended
            with suppress(OSError):
                self._writer.write(message)

    def drain(self) -> None:
        """Tell it to wait the drain delay, refuse new requests, finish those in flight and end."""
        if self._writer is not None and self.is_warm.is_set() and not self.has_ended.is_set():
            self._tell(b"drain\n")
        else:
            self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self._process is not None and not self.has_ended.is_set():
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _wait(self) -> None:
        assert self._process is not None, "the worker was not started. This is a bug."
        self.exit_code = await self._process.wait()
        # Its last messages are still to be read.
        await self._tasks[0]
        assert self._writer is not None, "the worker was not started. This is a bug."
        self._writer.close()
        self.has_ended.set()

    async def _read_messages(self, reader: asyncio.StreamReader) -> None:
        with suppress(ConnectionError):
            while line := await reader.readline():
                [(message, values)] = json.loads(line).items()
                self._on_message(message, values)

    def _on_message(self, message: str, values: dict[str, Any]) -> None:
        match message:
            case "warm":
                self.is_warm.set()
            case "serving":
                self.serves = values
                self._served_at = time.monotonic()
                self.is_warm.set()
                self.is_serving.set()
            case "alive":
                self.answers += 1
            case "failed":
                self.cause = values["cause"]
            case "stopped":
                self.is_clean = values["is_clean"]
            case _:
                event(_LOG, logging.ERROR, "unknown message from a worker", worker=self.index, received=message)
