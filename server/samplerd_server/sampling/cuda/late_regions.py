"""The double of CUDA's handles: device memory that two processes share is a file of /dev/shm, which a handle names.

Rule 1: as with CUDA, a process cannot open its own handles. Rule 2: memory whose file is gone was freed by its owner:
a copy that is still to come from there, or from a region that was closed, loses the card, as an illegal address does.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np

from samplerd_server.sampling.cuda.card import CardLostError, RegionError
from samplerd_server.sampling.cuda.handles import HANDLE_BYTES

__all__ = ["LateRegions", "make_handle"]

_FOLDER = Path("/dev/shm")  # noqa: S108  # as shm_open(3) has it: no temporary file of ours
_MARK = "late-card"


def make_handle(name: str, owner: int) -> bytes:
    """Make the handle of memory that stands for a device's, by the name of its file and the id of its process."""
    return f"{_MARK}:{owner}:{name}".encode().ljust(HANDLE_BYTES, b"\0")


class LateRegions:
    """Regions of other processes that are open."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[Path, mmap.mmap, int]] = {}
        """The file, the mapping and the size of each, by its address."""
        self._closed: list[mmap.mmap] = []
        """Kept mapped, so that whoever comes too late meets an error and not a signal."""

    def open(self, handle: bytes) -> tuple[int, int]:
        """Open a region; returns its address and its size in bytes.

        Raises:
            RegionError: it is no handle, or one of this process, or its memory is freed.

        """
        mark, _, rest = handle.rstrip(b"\0").decode(errors="replace").partition(":")
        owner, _, name = rest.partition(":")
        path = _FOLDER / name
        if mark != _MARK or not name or "/" in name:
            raise RegionError("it is no handle")
        if owner == str(os.getpid()):
            raise RegionError("a process cannot open its own handles")
        try:
            with path.open("r+b") as file:
                own = mmap.mmap(file.fileno(), 0)
        except (OSError, ValueError) as error:
            raise RegionError(f"the memory is not there: {error}") from None
        address = int(np.frombuffer(own, np.uint8).ctypes.data)
        self._open[address] = path, own, len(own)
        return address, len(own)

    def close(self, address: int) -> None:
        """Close a region."""
        self._closed.append(self._open.pop(address)[1])

    def find(self, address: int) -> int:
        """Find the region that an address lies in, by its own address; 0 = none."""
        for begin, (_, _, size) in self._open.items():
            if begin <= address < begin + size:
                return begin
        return 0

    def check(self, begin: int) -> None:
        """Check that a region may be read or written now; 0 = memory that is none.

        Raises:
            CardLostError: it was closed, or its memory was freed.

        """
        if begin and begin not in self._open:
            raise CardLostError("an illegal address: the region was closed")
        if begin and not self._open[begin][0].exists():
            raise CardLostError("an illegal address: the memory of the region was freed")
