"""Tensors of torch that are on the double of a card: host memory that a file of /dev/shm shares with the server.

Everything but the place is torch's own: shapes, strides, storages and their lifetimes.
"""

from __future__ import annotations

import mmap
import os
import secrets
import weakref
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from samplerd_client import cuda_driver
from samplerd_client.cuda_driver import CudaMemoryError
from samplerd_server.sampling.cuda.late_regions import make_handle

FOLDER = Path("/dev/shm")


class CardTensor(torch.Tensor):
    """A tensor that says of itself that it is on a device."""

    is_cuda = property(lambda self: True)
    device = property(lambda self: torch.device("cuda", 0))


class Stream:
    """The double of a stream, whose work is done when its events are waited for."""

    def __init__(self, late: bool = False) -> None:
        self.late = late
        self.events: list[Event] = []

    def record_event(self, event: Event) -> Event:
        event.is_over = not self.late
        self.events.append(event)
        return event


class Event:
    """The double of an event."""

    def __init__(self, *, blocking: bool) -> None:
        assert blocking, "a thread that waits must not take a core"
        self.is_over = False
        self.waits = 0

    def query(self) -> bool:
        return self.is_over

    def synchronize(self) -> None:
        self.waits += 1
        self.is_over = True


class Card:
    """Device memory of this process, and the driver that tells of it."""

    def __init__(self) -> None:
        self._allocations: dict[int, tuple[int, str]] = {}
        """Size and file of each allocation, by its address."""
        self.failure: str | None = None
        """Why the driver gives no handle."""
        self.stream = Stream()

    def allocate(self, size: int) -> CardMemoryBlock:
        """An allocation of so many bytes, as CUDA makes one and torch carves tensors out of it."""
        name = f"samplerd-test-tensor-{secrets.token_hex(6)}"
        path = FOLDER / name
        path.write_bytes(bytes(size))
        with path.open("r+b") as file:
            memory = mmap.mmap(file.fileno(), 0)
        begin = int(np.frombuffer(memory, np.uint8).ctypes.data)
        self._allocations[begin] = len(memory), name
        return CardMemoryBlock(memory, path)

    def tensor(self, rows: Any, offset: int = 0) -> Any:
        """Rows in an allocation of their own."""
        array = rows if isinstance(rows, torch.Tensor) else np.asarray(rows)
        return self.allocate(array.nbytes + offset + 256).tensor(array, offset)

    def allocation(self, address: int) -> tuple[int, int]:
        for begin, (size, _) in self._allocations.items():
            if begin <= address < begin + size:
                return begin, size
        raise CudaMemoryError("no memory of the device")

    def handle(self, begin: int) -> bytes:
        if self.failure is not None:
            raise CudaMemoryError(self.failure)
        return make_handle(self._allocations[begin][1], os.getpid())

    def rename(self, tensor: Any) -> None:
        """Have other memory of the same size lie at the same address, as after a free."""
        begin, _ = self.allocation(tensor.data_ptr())
        size, old = self._allocations[begin]
        name = f"{old}-again"
        os.link(FOLDER / old, FOLDER / name)
        self._allocations[begin] = size, name

    def close(self) -> None:
        for _, name in self._allocations.values():
            for path in FOLDER.glob(f"{name.removesuffix('-again')}*"):
                path.unlink(missing_ok=True)


class CardMemoryBlock:
    """One allocation."""

    def __init__(self, memory: mmap.mmap, path: Path) -> None:
        self.memory = memory
        self.path = path

    def tensor(self, rows: Any, offset: int = 0) -> Any:
        """These rows, written at an offset in bytes, as a tensor with a storage of its own."""
        source = rows if isinstance(rows, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(rows))
        own = torch.frombuffer(self.memory, dtype=source.dtype, count=source.numel(), offset=offset)
        own.copy_(source.flatten())
        return own.view(source.shape).as_subclass(CardTensor)


def freed(tensor: Any) -> Any:
    """What tells whether torch has freed the storage of a tensor: it returns None then."""
    return weakref.ref(tensor.untyped_storage())


@pytest.fixture
def card(monkeypatch):
    """The double of a card, in torch's place and in the driver's."""
    own = Card()
    monkeypatch.setattr(cuda_driver, "load_driver", lambda: own)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: own.stream)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    yield own
    own.close()
