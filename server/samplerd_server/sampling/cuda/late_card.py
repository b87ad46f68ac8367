"""A double of a card, without one: kernels run in Triton's interpreter, and nothing runs before it is waited for.

Copies and kernels are queued, each in order. Rule 1: work runs when a mark behind it is waited for, and a copy only for
kernels that are behind a fence; so whoever reads, frees or overwrites memory too soon gets other results, always.
Rule 2: memory that nobody has written is full of ones, which are NaN as floats. Rule 3: it may be told to fail.
"""

from __future__ import annotations

import ctypes
import threading
from collections import deque
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from samplerd_server.sampling.cuda.arena import SLOT
from samplerd_server.sampling.cuda.card import CardError, CardLostError, Counts
from samplerd_server.sampling.cuda.interpreter import launch, make_exact
from samplerd_server.sampling.cuda.late_regions import LateRegions
from samplerd_server.sampling.decode import read_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from samplerd_server.sampling.cuda.card import Buffer

__all__ = ["LateCard"]

_MOST_DRAWS = 64
"""Draws of a row that are interpreted at most: each takes some 50 ms."""


class LateCard:
    """See the module, and `card.Card`."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.failures: dict[str, CardError] = {}
        """What the next call of a function raises, by its name; of `wait`, what the work before it has met."""
        self._memory: list[NDArray[np.uint8]] = []
        self._copies: deque[Callable[[], object]] = deque()
        self._copied = self._enqueued = 0
        """Copies, and kernels and fences, that were enqueued."""
        self._work: deque[Callable[[], object]] = deque()
        self._done = self._ran = 0
        """Copies, and kernels and fences, that have run."""
        self._running = threading.Lock()
        self._enqueueing = threading.Lock()
        self._regions = LateRegions()
        self._loss: CardLostError | None = None

    @property
    def name(self) -> str:
        """As GetServerInfo and the log show it."""
        return "triton-interpreter"

    @property
    def most_draws(self) -> int:
        """It makes few."""
        return _MOST_DRAWS

    @property
    def sensors(self) -> Mapping[str, Callable[[], float]]:
        """It has none."""
        return {}

    @property
    def index(self) -> int:
        """There is one."""
        return 0

    @property
    def overhead_ns(self) -> int:
        """0: everything that can be is drawn here."""
        return 0

    @property
    def row_overhead_ns(self) -> int:
        """0, too."""
        return 0

    def _fail(self, function: str) -> None:
        """Raise what this function was told to, and what a lost card answers to everything."""
        error = self.failures.pop(function, None) or self._loss
        if isinstance(error, CardLostError):
            self._loss = error
        if error is not None:
            raise error

    def start(self) -> None:
        """Make the interpreter exact."""
        self._fail("start")
        make_exact()

    def allocate(self, size: int) -> int:
        """Allocate what stands for device memory."""
        self._fail("allocate")
        return self._allocate(size)

    def allocate_locked(self, size: int) -> int:
        """Allocate what stands for page-locked memory."""
        self._fail("allocate_locked")
        return self._allocate(size)

    def _allocate(self, size: int) -> int:
        own = np.full(size + SLOT, 0xFF, np.uint8)
        self._memory.append(own)
        return -(-own.ctypes.data // SLOT) * SLOT

    def copy(self, to: int, own: int, size: int) -> None:
        """Enqueue a copy."""
        self._fail("copy")
        self._enqueue_copy(partial(ctypes.memmove, to, own, size))
        self.counts.copies += 1
        self.counts.copied_bytes += size

    def _enqueue_copy(self, copy: Callable[[], object]) -> None:
        with self._enqueueing:  # two threads enqueue copies
            self._copies.append(copy)
            self._copied += 1

    def copy_within(self, to: int, own: int, size: int) -> None:
        """Enqueue a copy from what stands for device memory, of this process or of another."""
        self._fail("copy_within")
        region = self._regions.find(own)

        def copy() -> None:
            self._regions.check(region)
            ctypes.memmove(to, own, size)

        self._enqueue_copy(copy)

    def fetch(self, to: int, own: int, size: int) -> None:
        """Run the copies so far, and copy."""
        self._fail("fetch")
        self._finish_copies()
        with self._losing():
            self._regions.check(self._regions.find(own))
        ctypes.memmove(to, own, size)

    def store(self, to: int, own: int, size: int) -> None:
        """Run the copies so far, and copy."""
        self._fail("store")
        self._finish_copies()
        with self._losing():
            self._regions.check(self._regions.find(to))
        ctypes.memmove(to, own, size)

    def open_region(self, handle: bytes) -> tuple[int, int]:
        """Map the file that stands for memory of another process."""
        self._fail("open_region")
        return self._regions.open(handle)

    def close_region(self, address: int) -> None:
        """Run the copies so far, and close it."""
        self._fail("close_region")
        try:
            self._finish_copies()
        finally:
            self._regions.close(address)

    def _finish_copies(self) -> None:
        with self._running, self._losing():
            self._run_copies(self._copied)

    @contextmanager
    def _losing(self) -> Iterator[None]:
        """Note that work has lost the card."""
        try:
            yield
        except CardLostError as error:
            self._loss = error
            raise

    def fence(self) -> None:
        """Let kernels from now on see the copies so far."""
        self._fail("fence")
        self._enqueue(partial(self._run_copies, self._copied))

    def launch(self, kernel: Any, programs: int, *arguments: Buffer) -> None:
        """Enqueue a kernel."""
        if not programs:
            return
        self._fail("launch")
        self._enqueue(lambda: launch(kernel, programs, *map(_tensor, arguments)))
        self.counts.launches += 1

    def _enqueue(self, work: Callable[[], object]) -> None:
        self._work.append(work)
        self._enqueued += 1

    def mark(self) -> int:
        """Count what was enqueued."""
        self._fail("mark")
        return self._enqueued

    def wait(self, mark: int) -> None:
        """Run all work before a mark."""
        self.counts.waits += 1
        self._fail("wait")
        with self._running, self._losing():
            while self._ran < mark:
                self._ran += 1
                self._work.popleft()()

    def _run_copies(self, until: int) -> None:
        while self._done < until:
            self._done += 1
            self._copies.popleft()()

    def close(self) -> None:
        """Drop what has not run."""
        self._work.clear()
        self._copies.clear()
        self._memory.clear()


def _tensor(own: Buffer) -> torch.Tensor:
    return torch.from_numpy(read_bytes(own.address, own.length * own.dtype.itemsize).view(own.dtype))
