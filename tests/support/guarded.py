"""Memory between two pages that nobody may touch: who reads or writes beside it ends the process by SIGSEGV."""

from __future__ import annotations

import ctypes
import dataclasses
import mmap
import sys
from itertools import count
from typing import Any, TypeVar

import numpy as np

PAGE = mmap.PAGESIZE
EDGES = ("begin", "end")
"""Where something lies: right after the first guard page, or right before the last one."""
_ENTITY = TypeVar("_ENTITY")
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_NO_ACCESS = 0
_FAILED = ctypes.c_void_p(-1).value
_EMPTY_BYTES = sys.getsizeof(b"") - 1
"""What lies before the content of a `bytes`; after it comes a NUL, which the length does not count."""


class _Arena:
    """Some pages between two guard pages."""

    def __init__(self, size: int) -> None:
        whole = size + 2 * PAGE
        access = mmap.PROT_READ | mmap.PROT_WRITE
        first = _LIBC.mmap(None, whole, access, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        assert first != _FAILED, ctypes.get_errno()
        for guard in (first, first + PAGE + size):
            assert _LIBC.mprotect(guard, PAGE, _NO_ACCESS) == 0, ctypes.get_errno()
        self.begin, self.end = first + PAGE, first + PAGE + size


class Guarded:
    """Gives memory beside guard pages, until `reset` takes all of it back."""

    def __init__(self, size: int = 1 << 18) -> None:
        self._size = size
        self._arenas: list[_Arena] = []
        self._used = 0
        self.edge = "end"

    def reset(self, edge: str) -> None:
        """Take back all memory, and place what comes at this edge."""
        self._used, self.edge = 0, edge

    def take(self, size: int, gap: int = 0) -> Any:
        """Give memory as uint8[size], `gap` bytes away from the guard page."""
        if self._used == len(self._arenas):
            self._arenas.append(_Arena(self._size))
        arena = self._arenas[self._used]
        self._used += 1
        assert size + gap <= self._size
        address = arena.begin + gap if self.edge == "begin" else arena.end - size - gap
        return np.frombuffer((ctypes.c_uint8 * size).from_address(address), np.uint8)

    def copy(self, data: Any, gap: int = 0) -> Any:
        """Give a copy, of the same type and shape if it is an array, else as bytes."""
        if not isinstance(data, np.ndarray):
            data = np.frombuffer(data, np.uint8)
        flat = np.ascontiguousarray(data)
        own = self.take(flat.nbytes, gap)
        own[:] = flat.reshape(-1).view(np.uint8)
        return own.view(flat.dtype).reshape(data.shape)

    def entity(self, own: _ENTITY, gaps: count[int]) -> _ENTITY:
        """Give an entity with every array and buffer in it beside a guard page; bytes at any alignment."""
        if isinstance(own, tuple):
            return type(own)(self.entity(item, gaps) for item in own)
        if isinstance(own, np.ndarray):
            return self.copy(own) if own.size else own
        if isinstance(own, bytes | memoryview):
            return self.copy(own, next(gaps) % 8).data
        if not dataclasses.is_dataclass(own):
            return own
        fields = {field.name: getattr(own, field.name) for field in dataclasses.fields(own)}
        changed = {name: self.entity(value, gaps) for name, value in fields.items()}
        return dataclasses.replace(own, **{name: new for name, new in changed.items() if new is not fields[name]})

    def message(self, content: bytes) -> bytes:
        """Give a `bytes` whose last byte is the last before the guard page: without the NUL that ends any other.

        Its object lies in memory that is taken back by `reset`, so nobody may keep it.
        """
        assert self.edge == "end"
        own = self.take(_EMPTY_BYTES + len(content))
        model = ctypes.string_at(id(content), _EMPTY_BYTES)
        own[:] = np.frombuffer(model + content, np.uint8)
        own[:8] = np.frombuffer(np.int64(1 << 30).tobytes(), np.uint8)  # so many references that nobody frees it
        found: bytes = ctypes.cast(ctypes.c_void_p(own.ctypes.data), ctypes.py_object).value
        return found


class GuardedNumpy:
    """numpy, but that new arrays lie beside guard pages: for the modules that allocate what kernels write."""

    def __init__(self, memory: Guarded) -> None:
        self._memory = memory

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def empty(self, shape: int, dtype: Any) -> Any:
        kind = np.dtype(dtype)
        return self._memory.take(shape * kind.itemsize).view(kind) if shape else np.empty(shape, kind)

    def zeros(self, shape: int, dtype: Any) -> Any:
        own = self.empty(shape, dtype)
        own[:] = 0
        return own
