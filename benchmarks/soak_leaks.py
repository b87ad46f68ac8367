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
    from collections.abc import Awaitable, Callable, Mapping

    from benchmarks.servers import ServerProcess

__all__ = [
    "BEYOND_POOLS",
    "descriptors",
    "lasting_threads",
    "own_bytes",
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
`reserve_threads` in `posix_engine.h` of grpcio 1.85.1. That pool may have more for a while; see `_POOL_LOOKS`."""
_LOOKS = 30
"""Seconds that connections may take to be closed, and tasks to end."""
_POOL_LOOKS = 900
"""Seconds that pools may take to be back within their bounds.

grpcio's event engine starts one thread more whenever it finds all of them busy, once a second at the most and without
a bound on their number. A thread beyond `reserve_threads` ends once it has been given nothing for 20 s and has then
waited in vain for up to 3 s (`work_stealing_thread_pool.cc`). On an idle server that takes a while: about once a second
the loop of timers passes through the pool (`timer_manager.cc`), and whichever thread gets it begins its 20 s anew.
"""


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


def threads_beyond_pools(pid: int) -> int:
    """Count the threads of a process that its pools have beyond their bounds."""
    found = threads_of(pid)
    return sum(max(0, found[name] - most) for name, most in _MOST_OF_POOL.items())


async def settled(
    count: Callable[[], Mapping[str, int]], before: Mapping[str, int], pause: Callable[[float], Awaitable[object]]
) -> dict[str, int]:
    """Count what may have leaked, once it is no more than before; last of all, and for longest, wait for the pools.

    Args:
        count: counts it now.
        before: what it may be.
        pause: lets so many seconds pass.

    """
    found: dict[str, int] = {}
    for names, looks in ([name for name in before if name != BEYOND_POOLS], _LOOKS), ([BEYOND_POOLS], _POOL_LOOKS):
        for _ in range(looks):
            now = count()
            if all(now[name] <= before[name] for name in names):
                break
            await pause(1)
        found |= {name: now[name] for name in names}
    return found


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
