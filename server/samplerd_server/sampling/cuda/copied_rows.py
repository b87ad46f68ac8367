"""Rows that were copied out of memory of other processes on the card, and lie in device memory until they are drawn.

Their records hold addresses in device memory, which no host address equals; the card draws from them where they lie.
Rule 1: rows are free once no view of their memory exists; a finalizer only notes that, since it may run anywhere, and
whatever looks for rows acts on it first. Rule 2: they take a share of the arena, so that batches have room. Rule 3:
where the CPU draws, they are copied to the host once, and the copy lives as long as they do. Rule 4: what is copied to
them is enqueued among the copies; whoever gives a batch of them to the card puts a fence behind.
"""

from __future__ import annotations

import threading
from bisect import bisect_right, insort
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from samplerd_server.sampling.cuda.arena import Arena
from samplerd_server.sampling.cuda.card import CardError, OutOfCardMemoryError
from samplerd_server.sampling.decode import read_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samplerd_server.sampling.cuda.card import Card
    from samplerd_server.sampling.rows import RowBatch

__all__ = ["CopiedRows"]


class _Lease(np.ndarray[Any, np.dtype[np.uint8]]):
    """Device memory in use. Its bytes are not the host's to read; only its address and its lifetime mean anything."""

    freed: deque[int] | None = None
    begin: int = 0

    def __del__(self) -> None:
        if self.freed is not None:
            self.freed.append(self.begin)


class CopiedRows:
    """The rows. Any thread may call."""

    def __init__(self, card: Card) -> None:
        self._card = card
        self._arena = Arena(0, 0)
        self._limit_bytes = 0
        self._lock = threading.Lock()
        self._begins: list[int] = []
        """The addresses of all, ascending."""
        self._sizes: dict[int, int] = {}
        self._hosts: dict[int, NDArray[np.uint8]] = {}
        """Copies on the host, of those that have one."""
        self._freed: deque[int] = deque()
        self.used_bytes = 0

    def start(self, arena: Arena, limit_bytes: int) -> None:
        """Take memory from now on, at most so many bytes of an arena."""
        self._arena = arena
        self._limit_bytes = limit_bytes

    def lease(self, size: int) -> memoryview:
        """Take device memory for rows of so many bytes, which is free again when the last view of it is gone.

        Raises:
            OutOfCardMemoryError: there is not as much.

        """
        with self._lock:
            self._drop_freed()
            if self.used_bytes + size > self._limit_bytes:
                raise OutOfCardMemoryError(f"{self.used_bytes} bytes of at most {self._limit_bytes} are taken")
            begin = self._arena.take(size)
            self.used_bytes += size
            self._sizes[begin] = size
            insort(self._begins, begin)
        lease = read_bytes(begin, size).view(_Lease)
        lease.freed, lease.begin = self._freed, begin
        return lease.data

    def free_unused(self) -> bool:
        """Give memory back that nobody refers to any more; returns whether there was any."""
        with self._lock:
            return self._drop_freed()

    def _drop_freed(self) -> bool:
        has_freed = bool(self._freed)
        while self._freed:
            begin = self._freed.popleft()
            self._begins.remove(begin)
            self.used_bytes -= self._sizes.pop(begin)
            self._hosts.pop(begin, None)
            self._arena.give_back(begin)
        return has_freed

    def holds(self, addresses: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Tell which of some addresses lie in device memory: bool[N]."""
        return self._arena.holds(addresses)

    def find(self, rows: NDArray[np.void]) -> NDArray[np.bool_]:
        """Tell which rows, ROW[B], need the card's memory, for themselves or for their guidance: bool[B]."""
        if not self._begins:
            return np.zeros(len(rows), bool)
        return self.holds(rows["data"]) | self.holds(rows["guidance"])

    def bring(self, batch: RowBatch) -> tuple[RowBatch, NDArray[np.bool_]]:
        """Copy the rows of a batch that are on the card to the host.

        Returns:
            The batch with the addresses of the copies, which live as long as its rows; and which rows are lost with
            the card: bool[B].

        """
        here = self.find(batch.rows)
        lost = np.zeros(len(batch), bool)
        if not here.any():
            return batch, lost
        rows = batch.rows.copy()
        for at in np.flatnonzero(here).tolist():
            for field in ("data", "guidance"):
                address = rows[field][at]
                if self.holds(np.array([address]))[0]:
                    try:
                        rows[field][at] = self._host_address(int(address))
                    except CardError:
                        lost[at] = True
        return replace(batch, rows=rows), lost

    def _host_address(self, address: int) -> int:
        """Find where a byte of device memory lies on the host, once all of its request is copied there.

        Raises:
            CardError: it could not be copied.

        """
        with self._lock:
            begin = self._begins[bisect_right(self._begins, address) - 1]
            host, size = self._hosts.get(begin), self._sizes[begin]
        if host is None:
            host = np.empty(size, np.uint8)
            self._card.fetch(host.ctypes.data, begin, size)
            with self._lock:
                host = self._hosts.setdefault(begin, host)
        return int(host.ctypes.data) + address - begin
