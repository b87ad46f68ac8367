"""Threads whose names the system knows too, so that `top -H`, `perf` and a debugger tell whose each is.

Python before 3.14 names threads for itself only. The system's names have 15 bytes, so the `samplerd-` that all begin
with is left out. Rule: whoever starts a thread of the server starts it here, or has a pool of this module do so.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

__all__ = ["MOST_HELPERS", "NamedThread", "helpers", "named_pool"]

MOST_HELPERS = min(32, (os.cpu_count() or 1) + 4)
"""Threads that the event loop has for what takes long, begun as they are needed: as many as Python gives a loop."""
_PREFIX = "samplerd-"
_MOST_BYTES = 15


class NamedThread(threading.Thread):
    """A thread that tells the system its name."""

    def run(self) -> None:
        """Run what the thread is for."""
        _name_this_thread()
        super().run()


def named_pool(name: str, most: int) -> ThreadPoolExecutor:
    """Make a pool of at most so many threads; their names are its own and a number."""
    return ThreadPoolExecutor(most, name, initializer=_name_this_thread)


def helpers() -> ThreadPoolExecutor:
    """Make the pool of an event loop, for what would keep it busy for long."""
    return named_pool(f"{_PREFIX}helper", MOST_HELPERS)


def _name_this_thread() -> None:
    name = threading.current_thread().name.removeprefix(_PREFIX).encode()[:_MOST_BYTES]
    with suppress(OSError):  # a system that takes no names
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_bytes(name)
