"""Processes as the system shows them: children, connections, and their end."""

from __future__ import annotations

import os
import select
from contextlib import suppress
from pathlib import Path

ESTABLISHED = "01"


def children(pid: int) -> list[int]:
    """The processes that a process started."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):  # a thread that has ended meanwhile
            found += map(int, (task / "children").read_text().split())
    return found


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and those that they started."""
    found = children(pid)
    return found + [own for child in found for own in descendants(child)]


def connections(pids: list[int], port: int) -> int:
    """How many connections of clients to a port these processes hold."""
    tables = [Path(f"/proc/net/{name}") for name in ("tcp", "tcp6")]  # grpcio's sockets are of IPv6 even for IPv4
    fields = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
    ours = {own[9] for own in fields if own[3] == ESTABLISHED and int(own[1].rpartition(":")[2], 16) == port}
    found = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                found.add(link.readlink().name.removeprefix("socket:[").removesuffix("]"))
    return len(found & ours)


def variables(pid: int) -> dict[str, str]:
    """The environment that a process was started with."""
    text = Path(f"/proc/{pid}/environ").read_text(encoding="utf-8")
    return dict(entry.split("=", 1) for entry in text.split("\0") if entry)


class Watched:
    """Processes whose end is waited for, though they are not ours; by descriptors, which no other process can get."""

    def __init__(self, pids: list[int]) -> None:
        self._descriptors = {pid: os.pidfd_open(pid) for pid in pids}

    def wait(self, timeout_s: float) -> list[int]:
        """Wait until all have ended; returns those that have not."""
        left = []
        for pid, descriptor in self._descriptors.items():
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            if not poll.poll(timeout_s * 1000):
                left.append(pid)
            os.close(descriptor)
        return left
