"""What rows point to, brought to where kernels can read it: numbers to device memory, lists to page-locked memory.

Rule 1: one copy to the device for a batch, whatever its rows: they are laid side by side in page-locked memory first.
Rule 2: what several rows share is copied once. Rule 3: rows of uploaded distributions are copied where they stay, each
by itself, when they are first drawn from, and never again while they are kept (`residents.py`). Rule 4: rows that lie
in device memory already are drawn from there, behind a fence (`copied_rows.py`).
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
    own, count = rows.copy(), len(rows)
    is_plain = bool(rows["plain"].all())
    addresses, sizes = own["data"].tolist(), (own["width"] * _ITEM_BYTES[own["dtype"]]).tolist()
    if not is_plain:
        guided = np.where(own["guidance"] != 0, own["width"] * _ITEM_BYTES[own["guidance_dtype"]], 0)
        addresses, sizes = addresses + own["guidance"].tolist(), sizes + guided.tolist()
    pairs = [*zip(addresses, sizes, strict=True), *spans]
    placed = _copy(pairs, memory, card)
    own["data"] = placed[:count]
    if not is_plain:
        own["guidance"] = placed[count : 2 * count]
        _lock_lists(own, memory)
    return own, placed[len(addresses) :]


def _lock_lists(rows: NDArray[np.void], memory: BatchMemory) -> None:
    """Copy the lists of rows, ROW[B], into page-locked memory, and let the rows point to the copies."""
    for address, length in _LISTS:
        some = np.flatnonzero((rows[address] != 0) & (rows[length] > 0))
        found: dict[tuple[int, int], int] = {}
        for at in some.tolist():
            key = int(rows[address][at]), 4 * int(rows[length][at])
            if key not in found:
                found[key] = memory.lock(read_bytes(*key)).ctypes.data
            rows[address][at] = found[key]


def _copy(pairs: list[tuple[int, int]], memory: BatchMemory, card: Card) -> list[int]:
    """Copy rows by address and size in bytes, 0 = none, to the device; returns their addresses there, 0 = none."""
    placed: dict[tuple[int, int], int] = {}
    new = []
    for pair in pairs:
        if pair not in placed:
            address, size = pair
            placed[pair] = own = address if memory.has(address) else memory.use(address, size) if size else 0
            if size and not own:
                new.append(pair)
    if new:
        _copy_new(new, placed, memory, card)
    card.fence()  # in any case: a cancelled request may have left a copy to memory that is free again
    return [placed[pair] for pair in pairs]


def _copy_new(new: list[tuple[int, int]], placed: dict[tuple[int, int], int], memory: BatchMemory, card: Card) -> None:
    """Copy rows that are not on the card, and write where they are there."""
    locked = memory.take_locked(sum(map(_whole, new)))
    staying: list[tuple[tuple[int, int], int]] = []
    passing: list[tuple[int, int]] = []
    for pair in new:
        kept = memory.keep(*pair)
        if kept:
            staying.append((pair, kept))
        else:
            passing.append(pair)
    end = locked
    for pair, kept in staying:
        ctypes.memmove(end, *pair)
        card.copy(kept, end, pair[1])
        placed[pair], end = kept, end + _whole(pair)
    if passing:
        first, total = end, sum(map(_whole, passing))
        device = memory.take(total)
        for pair in passing:
            ctypes.memmove(end, *pair)
            placed[pair], end = device + end - first, end + _whole(pair)
        card.copy(device, first, total)


def _whole(pair: tuple[int, int]) -> int:
    """Count the bytes of the slots that a row takes."""
    return -(-pair[1] // SLOT) * SLOT
