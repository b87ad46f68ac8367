"""What a leak of a server would leave behind: threads, descriptors, segments of shared memory, anonymous memory.

Some threads begin when they are first needed, and stay: the event loop's own for what takes long, those of grpcio's
event engine, and the one that writes lines of the log. Of these, those beyond a bound are counted; of the others, all.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from samplerd_server.core.named_thread import MOST_HELPERS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from benchmarks.servers import ServerProcess

__all__ = [
    "BEYOND_POOLS",
    "descriptors",
    "lasting_threads",
    "own_bytes",
    "rests_of",
    "segments_of",
    "settled",
    "threads_beyond_pools",
    "threads_of",
]

BEYOND_POOLS = "threads_beyond_pools"
"""What threads that pools have beyond their bounds are counted as."""

_SHARED = Path("/dev/shm")  # noqa: S108  # only looked at
_MOST_OF_POOL = {"helper": MOST_HELPERS, "log": 1, "event_engine": min(max(os.cpu_count() or 1, 4), 16)}
"""Threads that each pool may keep in a process, by their name: `named_thread.py`, `background_log.py`, and
`reserve_threads` in `posix_engine.h` of grpcio 1.85.1."""
_GROWING_POOL = "event_engine"
"""The pool that may have more threads for as long as it likes.

grpcio starts one thread more whenever it finds all busy, once a second at the most, and names no largest number. Such a
thread ends once it has been given nothing for 20 s and has then waited in vain (`work_stealing_thread_pool.cc`). On an
idle server that may take long: the loop of timers passes through the pool about once a second (`timer_manager.cc`), and
whichever thread takes it begins its 20 s anew. Of seven servers with one to three threads more, that nobody called,
five ended them within 28 to 78 s; two had one still after 200 s and 600 s, on a machine with other work. What tells a
thread of the pool from one that was left behind is that it looks for work, every 4 s at the least, and then sleeps
again.
"""
_POLLERS = 1
"""Threads of it that wait for sockets instead, for up to a day."""
_LOOKS = 30
"""Seconds that connections may take to be closed, tasks to end, and threads to look for work."""


def own_bytes(server: ServerProcess) -> int:
    """Measure the anonymous memory of a server: libraries are shared with whatever else runs, and would be noise."""
    found = 0
    for pid in server.pids():
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
        found += sum(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:"))
    return found


def threads_of(pid: int) -> Counter[str]:
    """Count the threads of a process by name, those of a pool by its name.

    A native library's threads have the name of the one that has loaded it, as OpenBLAS's that of `helper_0`: of threads
    with one number, all but one belong to no pool, and keep the number.
    """
    names: Counter[str] = Counter()
    for path in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended
            names[(path / "comm").read_text(encoding="utf-8", errors="replace").strip()] += 1
    found: Counter[str] = Counter()
    for name, count in names.items():
        pool, is_numbered = re.subn(r"_\d+$", "", name)
        found[pool] += is_numbered
        found[name] += count - is_numbered
    return +found  # without names that no thread has


def lasting_threads(pid: int) -> int:
    """Count the threads of a process that belong to no pool."""
    return sum(count for name, count in threads_of(pid).items() if name not in _MOST_OF_POOL)


def rests_of(pids: Iterable[int]) -> dict[int, int]:
    """Count how often each thread of grpcio's pool has gone to sleep, by its id."""
    found = {}
    for path in (path for pid in pids for path in Path(f"/proc/{pid}/task").iterdir()):
        with contextlib.suppress(OSError):  # it has ended
            lines = (path / "status").read_text(encoding="utf-8", errors="replace").splitlines()
            told = dict(line.split(":", 1) for line in lines)
            if told["Name"].strip() == _GROWING_POOL:
                found[int(path.name)] = int(told["voluntary_ctxt_switches"])
    return found


def threads_beyond_pools(pid: int, rests: Mapping[int, int] | None = None) -> int:
    """Count the threads of a process that its pools have beyond their bounds.

    Args:
        pid: the process.
        rests: what `rests_of` has counted earlier; threads of grpcio's pool that have slept again since do not count.

    """
    found = threads_of(pid)
    beyond = {name: max(0, found[name] - most) for name, most in _MOST_OF_POOL.items()}
    if rests is not None:
        idle = sum(rests.get(thread, count) == count for thread, count in rests_of([pid]).items())
        beyond[_GROWING_POOL] = min(beyond[_GROWING_POOL], max(0, idle - _POLLERS))
    return sum(beyond.values())


async def settled(
    count: Callable[[], Mapping[str, int]], before: Mapping[str, int], pause: Callable[[float], Awaitable[object]]
) -> Mapping[str, int]:
    """Count what may have leaked, once it is no more than before: connections take a moment to be closed.

    Args:
        count: counts it now.
        before: what it may be.
        pause: lets so many seconds pass.

    """
    for _ in range(_LOOKS):
        now = count()
        if all(number <= before[name] for name, number in now.items()):
            break
        await pause(1)
    return now


def descriptors(server: ServerProcess) -> set[str]:
    """Name what the descriptors of a server are: process, number and kind."""
    found = set()
    for pid in server.pids():
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(f"{pid}/{path.name} {path.readlink()}")
    return found


def segments_of(server: ServerProcess) -> set[Path]:
    """Find what a server's processes have open or mapped in /dev/shm, which others use too."""
    found = set()
    for pid in server.pids():
        with contextlib.suppress(OSError):
            texts = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
            texts += [line.split()[-1] for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
            found |= {
                _SHARED / Path(text).relative_to(_SHARED).parts[0] for text in texts if text.startswith(f"{_SHARED}/")
            }
    return {path for path in found if path.exists()}
