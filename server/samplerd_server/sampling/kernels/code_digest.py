"""What the machine code of a kernel depends on, as one digest.

Numba keys a function's machine code by the file that the function is in, which says nothing of the parts that it calls
from other files. Here the key is a digest of everything that the compiler reads: the bytecode of the kernel and of each
part that it calls, in turn; the values of the constants that they name; the compiler's options; the versions of numba,
llvmlite and numpy; and the sources of the compiler. So an edit recompiles the kernels that it
changes and no others; an edit of a comment or a docstring recompiles nothing; and times of files do not count: a fresh
checkout, or another installation of the same version, uses what is in the cache. The types of the arguments and the
processor are in numba's own index (code_cache.py).

Rule 1: what cannot be told apart by its value is refused, never ignored: a kernel that names such a thing is not
compiled.
"""

# Numba's compiler has annotations here and there only.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import enum
import hashlib
import sys
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import llvmlite
import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.dispatcher import Dispatcher
from numba.core.extending import _Intrinsic as Intrinsic

__all__ = ["digest"]

_COMPILER = tuple(
    Path(__file__).with_name(name) for name in ("compiler.py", "shared_parts.py", "object_code.py", "python_entry.py")
)
_LIBRARIES = ("numba", "numpy", "llvmlite", "builtins", "math")
"""What these define is told by its name: their versions are in the digest."""


class _Reader:
    """Writes down all that a function is compiled from, once for each thing."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self._seen: dict[int, Any] = {}

    def read(self, value: Any) -> None:
        """Write down a value of a name that compiled code may read."""
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes, enum.Enum)):
            self.text.append(f"{kind}={value!r}")
        elif isinstance(value, (np.generic, np.ndarray)):
            self.text.append(f"{kind}={value.dtype.str}{value.shape}{value.tobytes().hex()}")
        elif isinstance(value, (types.Type, ir.Type, np.dtype)):
            self.text.append(f"{kind}={value!s}")
        elif isinstance(value, (tuple, list)):
            self.text.append(f"{kind}[{len(value)}]")
            for item in value:
                self.read(item)
        elif isinstance(value, ModuleType):
            self.text.append(f"module={value.__name__}")
        elif _is_of_library(value):
            self.text.append(f"library={value.__module__}.{_name_of(value)}")
        elif isinstance(value, (Dispatcher, Intrinsic, FunctionType, type)):
            self._read_once(value, kind)
        else:
            raise TypeError(f"compiled code names {value!r}, whose changes cannot be told. This is a bug.")

    def _read_once(self, value: Any, kind: str) -> None:
        """Write down what has parts, and may be named by many."""
        self.text.append(f"{kind}={value.__module__}.{value.__qualname__}")
        if id(value) in self._seen:
            return
        self._seen[id(value)] = value
        if isinstance(value, Dispatcher):
            self.text.append(repr(sorted(value.targetoptions.items())))
            self.read(value.py_func)
        elif isinstance(value, Intrinsic):
            self.read(value._defn)  # noqa: SLF001  # numba has no public name for it
        elif isinstance(value, FunctionType):
            # A docstring is the first constant.
            self._read_code(value.__code__, value.__globals__, first=int(value.__doc__ is not None))
            for cell in value.__closure__ or ():
                self.read(cell.cell_contents)
            self.read(value.__defaults__)
        else:  # a named tuple, or a class of constants
            self.read(list(value) if issubclass(value, enum.Enum) else getattr(value, "_fields", ()))

    def _read_code(self, code: CodeType, names: dict[str, Any], *, first: int) -> None:
        """Write down bytecode, its constants, and the values of the global names in it."""
        self.text += [code.co_code.hex(), repr(code.co_names), repr(code.co_varnames), repr(code.co_freevars)]
        for constant in code.co_consts[first:]:
            if isinstance(constant, CodeType):
                self._read_code(constant, names, first=0)
            else:
                self.read(constant)
        for name in code.co_names:
            if name in names:
                self.read(names[name])


def _is_of_library(value: Any) -> bool:
    """Tell whether a function or class is numpy's, numba's, or Python's."""
    if isinstance(value, BuiltinFunctionType):
        return True
    module = getattr(value, "__module__", None)
    return module is not None and module.partition(".")[0] in _LIBRARIES and not isinstance(value, Intrinsic)


def _name_of(value: Any) -> str:
    """Give the name of a library's function or class; an object of a library has none, only an address."""
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    if name is None:
        raise TypeError(f"compiled code names {value!r}, whose changes cannot be told. This is a bug.")
    return str(name)


def digest(kernel: Dispatcher) -> str:
    """Compute what the machine code of a kernel depends on, its arguments and the processor excepted, as 64 digits.

    Raises:
        TypeError: a constant that compiled code names is of a kind whose value cannot be written down.

    """
    reader = _Reader()
    reader.read((sys.version_info[:2], numba.__version__, llvmlite.__version__, np.__version__))
    for source in _COMPILER:
        reader.read(source.read_bytes())
    reader.read(kernel)
    return hashlib.sha256("\n".join(reader.text).encode()).hexdigest()
