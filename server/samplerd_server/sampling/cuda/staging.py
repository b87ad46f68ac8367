"""What rows point to, brought to where kernels can read it: numbers to device memory, lists to page-locked memory.

Rule 1: one copy to the device for a batch, whatever its rows: they are laid side by side in page-locked memory first.
Rule 2: what several rows share is copied once. Rule 3: rows of uploaded distributions are copied where they stay, each
by itself, when they are first drawn from, and never again while they are kept (`residents.py`).
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import numpy as np

from samplerd_server.core.enums import Dtype
from samplerd_server.sampling.cuda.arena import SLOT
from samplerd_server.sampling.decode import read_bytes
from samplerd_server.sampling.parameters.record import LISTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from samplerd_server.sampling.cuda.batch_memory import BatchMemory
    from samplerd_server.sampling.cuda.card import Card

__all__ = ["stage"]

_ITEM_BYTES = np.array([0, *(Dtype(own).itemsize for own in sorted(Dtype))], np.int64)
"""Bytes of a number, by its dtype."""
_LISTS = (
    ("candidate_ids", "width"),
    ("named", "named_len"),
    *((own.name, f"{own.name}_len") for own in LISTS),
)
"""Where lists of 4-byte items lie, and how many items they have."""


def stage(
    rows: NDArray[np.void], memory: BatchMemory, card: Card, spans: Sequence[tuple[int, int]] = ()
) -> tuple[NDArray[np.void], list[int]]:
    """Copy what rows, ROW[B], point to, and return rows that point to the copies.

    spans: what else is copied to the device, by address and size in bytes, 0 = nothing; it also returns where these
    are.

    Raises:
        CardError: there is no room, or the card refused the copy.

    """
    own = rows.copy()
    numbers = [own["data"], own["guidance"]]
    sizes = [
        own["width"] * _ITEM_BYTES[own["dtype"]],
        np.where(own["guidance"] != 0, own["width"] * _ITEM_BYTES[own["guidance_dtype"]], 0),
    ]
    more = np.array(spans, np.uint64).reshape(-1, 2)
    addresses = _copy(
        np.concatenate([*numbers, more[:, 0]]), np.concatenate([*sizes, more[:, 1].astype(np.int64)]), memory, card
    )
    own["data"], own["guidance"], placed = np.split(addresses, [len(own), 2 * len(own)])
    for address, length in _LISTS:
        some = np.flatnonzero((own[address] != 0) & (own[length] > 0))
        found: dict[tuple[int, int], int] = {}
        for at in some.tolist():
            key = int(own[address][at]), 4 * int(own[length][at])
            if key not in found:
                found[key] = memory.lock(read_bytes(*key)).ctypes.data
            own[address][at] = found[key]
    return own, placed.tolist()


def _copy(
    addresses: NDArray[np.uint64], sizes: NDArray[np.int64], memory: BatchMemory, card: Card
) -> NDArray[np.uint64]:
    """Copy rows by address and size in bytes, 0 = none, to the device; returns their addresses there, 0 = none."""
    pairs, of_pair = np.unique(np.stack([addresses, sizes.astype(np.uint64)], axis=1), axis=0, return_inverse=True)
    placed = np.zeros(len(pairs), np.uint64)
    new = []
    for at, (address, size) in enumerate(pairs.tolist()):
        placed[at] = memory.use(address, size) if size else 0
        if size and not placed[at]:
            new.append(at)
    if new:
        _copy_new(pairs, new, placed, memory, card)
    found: NDArray[np.uint64] = placed[of_pair.reshape(-1)]
    return found


def _copy_new(
    pairs: NDArray[np.uint64], new: list[int], placed: NDArray[np.uint64], memory: BatchMemory, card: Card
) -> None:
    """Copy rows that are not on the card, and write where they are there."""
    sizes = pairs[new, 1].astype(np.int64)
    whole = -(-sizes // SLOT) * SLOT
    locked = memory.take_locked(int(whole.sum()))
    staying: list[tuple[int, int, int]] = []
    passing: list[tuple[int, int, int]] = []
    for at, size in zip(new, sizes.tolist(), strict=True):
        kept = memory.keep(int(pairs[at, 0]), size)
        (staying if kept else passing).append((at, size, kept))
    end, begin = locked, 0
    for at, size, kept in staying:
        ctypes.memmove(end, int(pairs[at, 0]), size)
        card.copy(kept, end, size)
        placed[at], end = kept, end + -(-size // SLOT) * SLOT
    if passing:
        first, total = end, sum(-(-size // SLOT) * SLOT for _, size, _ in passing)
        device = memory.take(total)
        for at, size, _ in passing:
            ctypes.memmove(first + begin, int(pairs[at, 0]), size)
            placed[at], begin = device + begin, begin + -(-size // SLOT) * SLOT
        card.copy(device, first, total)
    card.fence()
