"""All kernels as one shared object, which a process loads without numba, its compiler, or LLVM.

Numba and LLVM take 60 MiB and half a second of a process that compiles nothing. So whoever has loaded or compiled every
kernel links their machine code once (`elf_linker.py`) and saves it beside them; a server finds it by a digest of the
sources, the versions and the processor, and calls it through Python's C interface (`python_entry.py`). Rule 1: it has
the machine code of the optimised LLVM code that the cache of kernels holds; only where it lies in memory may change.
Rule 2: whatever is wrong with the file (absent, damaged, of another processor, in a folder whose files may not be run)
means numba, never the end of a start. Rule 3: a process draws with one of the two from its first import of a kernel on.
"""

from __future__ import annotations

import base64
import ctypes
import logging
import pickle
import sys
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from samplerd_server.sampling.kernels.linked_file import can_link, has_room, paths, read, report, write

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = [
    "ARRAY_DATA",
    "ARRAY_FLAGS",
    "ARRAY_LENGTHS",
    "ARRAY_NDIM",
    "ARRAY_TYPE",
    "PROCESSOR",
    "PROCESSOR_LEAVES",
    "KernelObject",
    "can_link",
    "entry",
    "is_used",
    "save",
    "use",
]

_LOG = logging.getLogger("samplerd.kernels")
ARRAY_DATA, ARRAY_NDIM, ARRAY_LENGTHS, ARRAY_TYPE, ARRAY_FLAGS = 16, 24, 32, 56, 64
"""Where numpy's C interface keeps the fields of an array (ndarraytypes.h), in CPython of 64 bits."""
PROCESSOR = "samplerd_processor"
"""The function that asks the processor what it is."""
PROCESSOR_LEAVES = ((0, 0), (1, 0), (7, 0), (7, 1), (0x80000001, 0))
"""What is asked: vendor, model, and the instructions that there are."""
_BY_CORE = 5
"""The word among the answers that names the core which answers."""
_FASTCALL = 0x80


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelObject:
    """The machine code of one kernel, or of a part that kernels share, before it is linked."""

    name: str
    """Module and qualified name of the function."""
    code: bytes
    """A relocatable object."""
    entry: str
    """The function that Python calls; empty = a shared part, which it does not."""
    types: str
    """The array of pointers that the entry compares types with."""
    dtypes: tuple[Any, ...]
    """Numpy's dtypes, in the order of that array, after its class of arrays."""


class _Method(ctypes.Structure):
    """PyMethodDef."""

    _fields_ = (("name", ctypes.c_char_p), ("call", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p))


_kernels: dict[str, Callable[..., Any]] | None = None
"""What this process draws with, by name; None = numba."""
_alive: list[Any] = []
"""What lives as long as the process: the library, its methods, and the types that it knows by their address."""


def use() -> bool:
    """Draw with linked kernels in this process, if there are any; to be called before a kernel is imported.

    Returns:
        Whether it does.

    """
    global _kernels  # noqa: PLW0603  # once for a process, as importing is
    is_open = _kernels is None and "samplerd_server.sampling.kernels.compile" not in sys.modules
    if is_open and _has_known_arrays():
        _kernels = next((own for path in paths() if (own := _load(path)) is not None), None)
    return is_used()


def is_used() -> bool:
    """Tell whether this process draws with linked kernels."""
    return _kernels is not None


def entry(name: str) -> Callable[..., Any]:
    """Give a linked kernel."""
    assert _kernels is not None, "linked kernels are not used. This is a bug."
    return _kernels[name]


def save(objects: Sequence[KernelObject], link: Callable[[list[bytes], list[str]], bytes], runtime: bytes) -> bool:
    """Link kernels, and save them for this processor in the first folder that can be written, unless one has them.

    Args:
        objects: all kernels, and the parts that they share.
        link: links objects into a shared object that exports symbols.
        runtime: object that defines the function `PROCESSOR`, and whatever else the kernels call.

    Returns:
        Whether there is a file of them now.

    """
    if not _has_known_arrays():
        return False
    if any(read(path) is not None for path in paths()):
        return True
    kernels = [own for own in objects if own.entry]
    exports = [PROCESSOR, *(name for own in kernels for name in (own.entry, own.types))]
    image = link([runtime, *(own.code for own in objects)], exports)
    about: dict[str, Any] = {
        "kernels": [
            {"name": own.name, "entry": own.entry, "types": own.types, "dtypes": _pack(own.dtypes)} for own in kernels
        ],
    }
    for path in paths():
        try:
            if not has_room(path.parent):
                continue
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix="linking-", suffix=".so") as bare:
                bare.write(image)
                bare.flush()
                # What cannot be loaded is not saved.
                library = ctypes.PyDLL(bare.name)
                processor = _ask_processor(library)
                for name in exports:
                    _address(library, name)
            write(path, image, about | {"processor": processor})
        except (OSError, ValueError) as error:  # also of the dynamic linker
            _LOG.info("kernels cannot be linked in %s: %s", path.parent, error)
        else:
            return True
    return False


def _has_known_arrays() -> bool:
    """Tell whether this numpy's arrays are laid out as the entries read them."""
    array = np.empty(3, np.int32)
    at = id(array)
    return (
        object.__basicsize__ == ARRAY_DATA
        and ctypes.c_void_p.from_address(at + ARRAY_DATA).value == array.__array_interface__["data"][0]
        and ctypes.c_int.from_address(at + ARRAY_NDIM).value == 1
        and ctypes.c_void_p.from_address(at + ARRAY_TYPE).value == id(array.dtype)
        and ctypes.c_int.from_address(at + ARRAY_FLAGS).value == array.flags.num
        and ctypes.POINTER(ctypes.c_ssize_t).from_address(at + ARRAY_LENGTHS)[0] == len(array)
    )


def _load(path: Path) -> dict[str, Callable[..., Any]] | None:
    """Load a file; None if it cannot be used here."""
    about = read(path)
    if about is None:
        return None
    try:
        library = ctypes.PyDLL(str(path))
        if _ask_processor(library) != about["processor"]:
            _LOG.info("linked kernels are of another processor")
            return None
        kernels = {own["name"]: _entry(library, own) for own in about["kernels"]}
    except (OSError, ValueError) as error:
        report(path, str(error))
        return None
    _alive.append(library)
    return kernels


def _entry(library: ctypes.PyDLL, own: dict[str, Any]) -> Callable[..., Any]:
    """Make what Python calls, and tell it the types that it compares."""
    known = (np.ndarray, *_unpack(own["dtypes"]))
    table = (ctypes.c_void_p * len(known)).from_address(_address(library, own["types"]))
    for place, one in enumerate(known):
        table[place] = id(one)
    name = own["name"].rpartition(".")[2].encode()
    method = _Method(name, _address(library, own["entry"]), _FASTCALL, None)
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype, make.argtypes = ctypes.py_object, (ctypes.POINTER(_Method), ctypes.c_void_p, ctypes.c_void_p)
    _alive.append((known, method))
    made: Callable[..., Any] = make(ctypes.byref(method), None, None)
    return made


def _address(library: ctypes.PyDLL, name: str) -> int:
    return ctypes.addressof(ctypes.c_char.in_dll(library, name))


def _ask_processor(library: ctypes.PyDLL) -> list[int]:
    words = (ctypes.c_uint32 * (4 * len(PROCESSOR_LEAVES)))()
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_address(library, PROCESSOR))(ctypes.addressof(words))
    words[_BY_CORE] = 0
    return list(words)


def _pack(dtypes: tuple[Any, ...]) -> str:
    return base64.b64encode(pickle.dumps(dtypes)).decode()


def _unpack(dtypes: str) -> tuple[Any, ...]:
    unpacked: tuple[Any, ...] = pickle.loads(base64.b64decode(dtypes))  # noqa: S301  # its checksum is right
    # A number's dtype is one object in a process, as a rule, and unpickling makes another.
    return tuple(np.dtype(own.str) if own.names is None else own for own in unpacked)
