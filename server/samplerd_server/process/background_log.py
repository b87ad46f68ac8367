"""Lines of the log that may be many: written by a thread of their own, so that a slow reader delays no call.

Rule 1: whoever logs never waits. When `_MAX_WAITING` lines wait to be written, further ones are dropped and counted,
and a line says how many once there is room. Rule 2: at the end of the process the lines that wait are written, unless
nobody reads them within `_CLOSE_S`. Rule 3: lines stay whole where workers share a pipe: a write has at most as many
bytes as the system puts into a pipe at once.
"""

from __future__ import annotations

import logging
import os
import select
import time
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from samplerd_server.core.named_thread import NamedThread

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

__all__ = ["BackgroundLog"]

_MAX_WAITING = 1 << 13
"""Some 4 MB of lines: more than a second of them at any rate that one event loop has."""
_AT_ONCE = 64
"""Most lines that are taken before any is written."""
_CLOSE_S = 1.0
_RETRY_S = 0.01


class BackgroundLog:
    """The lines that wait, and the thread that writes them, which begins with the first line."""

    def __init__(self, file: int, render: Callable[[logging.LogRecord], str]) -> None:
        """Take the descriptor of the file to write to, and what makes the text of a line."""
        self._file = file
        self._render = render
        self._lines: SimpleQueue[logging.LogRecord | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self.dropped = 0
        """Lines that were dropped since the start."""
        self._told = 0
        self.lost = 0
        """Lines that could not be written, as on a full disk. Counted by the thread alone."""

    def put(self, name: str, level: int, message: str, values: dict[str, object]) -> None:
        """Have a line written, or count it as dropped. From one thread at a time: the event loop's."""
        if self._lines.qsize() >= _MAX_WAITING:
            self.dropped += 1
            return
        record = logging.LogRecord(name, level, "", 0, message, None, None)
        record.values = values
        self._lines.put(record)
        if self._thread is None:
            self._thread = NamedThread(target=self._run, name="samplerd-log", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Write the lines that wait, and end the thread."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._lines.put(None)
            thread.join(_CLOSE_S)

    def _run(self) -> None:
        while (record := self._lines.get()) is not None:
            text, is_last = [self._render(record)], False
            with suppress(Empty):
                while len(text) < _AT_ONCE and not is_last:
                    record = self._lines.get_nowait()
                    if record is None:
                        is_last = True
                    else:
                        text.append(self._render(record))
            self._write_lines([*text, *self._drops()])
            if is_last:
                return

    def _drops(self) -> list[str]:
        dropped = self.dropped - self._told
        if not dropped:
            return []
        self._told += dropped
        message = "lines were left out, because nobody read them fast enough"
        record = logging.LogRecord("samplerd", logging.WARNING, "", 0, message, None, None)
        record.values = {"left_out": dropped}
        return [self._render(record)]

    def _write_lines(self, lines: list[str]) -> None:
        part = b""
        for line in lines:
            data = f"{line}\n".encode("utf-8", "replace")
            if part and len(part) + len(data) > select.PIPE_BUF:
                self._write(part)
                part = b""
            part += data
        self._write(part)

    def _write(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._file, data) :]
            except BlockingIOError:  # whoever started the process shares the file and has made it so
                time.sleep(_RETRY_S)
            except OSError:
                self.lost += data.count(b"\n")
                return  # the reader has gone, or the disk is full
