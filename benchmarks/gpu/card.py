"""Times of samplerd's own kernels, and of the copies that feed them, on one card."""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from samplerd_server.batching.pack import pack
from samplerd_server.core.enums import Dtype, InputKind
from samplerd_server.core.params import SamplingParams
from samplerd_server.core.request import SampleRequest
from samplerd_server.core.rows import DenseRows
from samplerd_server.sampling.cuda.batch_memory import BatchMemory
from samplerd_server.sampling.cuda.draw import enqueue
from samplerd_server.sampling.cuda.measure import measure
from samplerd_server.sampling.cuda.open_card import open_card
from samplerd_server.sampling.cuda.sampler import CudaSampler
from samplerd_server.sampling.cuda.staging import stage
from samplerd_server.sampling.rows import new_results

if TYPE_CHECKING:
    from collections.abc import Callable

    from samplerd_server.sampling.cuda.card import Card
    from samplerd_server.sampling.rows import RowBatch

__all__ = ["TimedCard", "logits"]

ROUNDS, REPEATS = 7, 50
MEMORY_BYTES = 4 << 30
_DTYPES = {"f32": Dtype.F32, "bf16": Dtype.BF16}


def logits(rows: int, width: int, dtype: str) -> bytes:
    """Give logits with a standard deviation of 3, little-endian; bf16 is float32 cut off."""
    x = np.random.default_rng(7).normal(scale=3.0, size=(rows, width)).astype(np.float32)
    return x.tobytes() if dtype == "f32" else (x.view(np.uint32) >> 16).astype(np.uint16).tobytes()


class TimedCard:
    """One card, and a sampler on it."""

    def __init__(self, index: int) -> None:
        """Start the card with this number."""
        self._card: Card = open_card(index)
        self._sampler = CudaSampler(self._card, device_bytes=MEMORY_BYTES, locked_bytes=MEMORY_BYTES // 4)
        self._sampler.warm_up()

    def _median_us(self, action: Callable[[], object]) -> float:
        """Microseconds of one call: the median of some rounds, each of which waits once at its end."""
        times = []
        for _ in range(ROUNDS + 1):
            began = time.perf_counter()
            for _ in range(REPEATS):
                action()
            self._card.wait(self._card.mark())
            times.append((time.perf_counter() - began) / REPEATS * 1e6)
        return median(times[1:])

    def _memory(self) -> BatchMemory:
        return BatchMemory(self._sampler.device, self._sampler.locked, self._sampler.residents)

    def _batch(self, rows: int, width: int, dtype: str, params: dict[str, Any]) -> RowBatch:
        source = DenseRows(dtype=_DTYPES[dtype], rows=rows, vocab_size=width, data=logits(rows, width, dtype))
        own = SamplingParams(**params, is_plain=params.keys() <= {"temperature"})
        return pack([SampleRequest(id=1, source=source, params=(own,), num_samples=1, seed=1, kind=InputKind.LOGITS)])

    def kernels_us(self, rows: int, width: int, dtype: str, params: dict[str, Any]) -> float:
        """Time the launches of one batch, whose rows are on the card."""
        batch, memory = self._batch(rows, width, dtype, params), self._memory()
        launches: list[tuple[Any, ...]] = []
        staged, _ = stage(batch.rows, memory, self._card)
        enqueue(staged, memory.lock_results(new_results(batch)), lambda *own: launches.append(own), memory)

        def launch_all() -> None:
            for own in launches:
                self._card.launch(*own)

        taken = self._median_us(launch_all)
        memory.give_back(is_whole=True)
        return taken

    def host_us(self, rows: int, width: int, dtype: str, params: dict[str, Any]) -> float:
        """Time what the host's thread does until a batch is enqueued, in processor time: the least of all rounds."""
        batch, times = self._batch(rows, width, dtype, params), []
        for _ in range(ROUNDS * REPEATS):
            began = time.thread_time()
            finish = self._sampler.begin(batch)
            times.append((time.thread_time() - began) * 1e6)
            finish()
        return min(times)

    def batch_us(self, rows: int, width: int, dtype: str) -> float:
        """Time all that the sampler does for a plain batch: from rows in the host's memory to results there."""
        batch = self._batch(rows, width, dtype, {"temperature": 0.8})
        return self._median_us(lambda: self._sampler.sample(batch))

    def copy_us(self, size: int) -> float:
        """Time a copy of so many bytes from page-locked memory."""
        memory = self._memory()
        to, own = memory.take(size), memory.take_locked(size)

        def copy() -> None:
            self._card.copy(to, own, size)
            self._card.fence()

        taken = self._median_us(copy)
        memory.give_back(is_whole=True)
        return taken

    def read_us(self, size: int) -> float:
        """Time `measure` over as many bytes of greedy float32 rows: each number is read once, and little is done."""
        memory = self._memory()
        batch = self._batch(max(1, size // (4 * 32_768)), 32_768, "f32", {"temperature": 0.0})
        launches: list[tuple[Any, ...]] = []
        staged, _ = stage(batch.rows, memory, self._card)
        enqueue(staged, memory.lock_results(new_results(batch)), lambda *own: launches.append(own), memory)
        [first] = [own for own in launches if own[0] is measure]
        taken = self._median_us(lambda: self._card.launch(*first))
        memory.give_back(is_whole=True)
        return taken

    def close(self) -> None:
        """Give the card back."""
        self._sampler.close()
