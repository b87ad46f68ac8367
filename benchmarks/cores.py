"""Cores of their own for servers and load, where there are more than two; on fewer they share them.

A load that takes processor time from the server that it measures makes that server slower than it is.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Cores", "apart", "divide"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """Which cores servers and load run on."""

    servers: frozenset[int]
    load: frozenset[int]

    @property
    def are_apart(self) -> bool:
        """Whether the load takes no processor time from the servers."""
        return not self.servers & self.load

    @contextmanager
    def for_load(self) -> Iterator[None]:
        """Run this thread, and what it starts, on the load's cores."""
        os.sched_setaffinity(0, self.load)
        try:
            yield
        finally:
            os.sched_setaffinity(0, self.servers)


def divide(every: Iterable[int]) -> Cores:
    """Give a quarter of the cores, and one at least, to the load; all to both if there are no more than two."""
    cores = sorted(every)
    if len(cores) <= 2:
        return Cores(servers=frozenset(cores), load=frozenset(cores))
    load = max(1, len(cores) // 4)
    return Cores(servers=frozenset(cores[:-load]), load=frozenset(cores[-load:]))


@contextmanager
def apart() -> Iterator[Cores]:
    """Run this thread, and the servers that it starts in this block, on the servers' cores."""
    every = os.sched_getaffinity(0)
    cores = divide(every)
    os.sched_setaffinity(0, cores.servers)
    try:
        yield cores
    finally:
        os.sched_setaffinity(0, every)
