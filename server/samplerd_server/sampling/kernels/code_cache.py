"""The cache of machine code on disk, keyed by what a kernel is made of.

Numba keys a function's machine code by the file that the function is in, which says nothing of the parts that it calls
from other files. Here the key is a digest of everything that the compiler reads: the bytecode of the kernel and of each
part that it calls, in turn; the values of the constants that they name; the compiler's options; the versions of numba,
llvmlite and numpy; and the source of compiler.py. So an edit recompiles the kernels that it changes and no others; an
edit of a comment or a docstring recompiles nothing; and times of files do not count: a fresh checkout, or another
installation of the same version, uses what is in the cache. The types of the arguments and the processor are in numba's
own index. Its files, its atomic writes and its search for a folder that can be written are used as they are.

Rule 1: what cannot be told apart by its value is refused, never ignored: a kernel that names such a thing is not
compiled.
"""

# Numba's compiler has annotations here and there only.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import enum
import hashlib
import sys
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import llvmlite
import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    IndexDataCacheFile,
    InTreeCacheLocator,
    NullCache,
    UserProvidedCacheLocator,
    UserWideCacheLocator,
)
from numba.core.dispatcher import Dispatcher
from numba.core.extending import _Intrinsic as Intrinsic

__all__ = ["KernelCache", "digest"]

_KEPT = 4
"""Versions of a kernel that stay in a cache: going back and forth between branches recompiles nothing."""
_DIGITS = 16
"""Digits of a digest in a file's name; the index holds all of them."""
_COMPILER = Path(__file__).with_name("compiler.py")
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
            self.text.append(f"library={value.__module__}.{getattr(value, '__qualname__', value)}")
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


def digest(kernel: Dispatcher) -> str:
    """Compute what the machine code of a kernel depends on, its arguments and the processor excepted, as 64 digits.

    Raises:
        TypeError: a constant that compiled code names is of a kind whose value cannot be written down.

    """
    reader = _Reader()
    reader.read((sys.version_info[:2], numba.__version__, llvmlite.__version__, np.__version__))
    reader.read(_COMPILER.read_bytes())
    reader.read(kernel)
    return hashlib.sha256("\n".join(reader.text).encode()).hexdigest()


class _Shared(UserProvidedCacheLocator):
    """The folder that NUMBA_CACHE_DIR names, with one place for all checkouts and installations."""

    @classmethod
    def get_suitable_cache_subpath(cls, py_file: str) -> str:
        """Name a folder by the package, not by where it is installed."""
        return f"samplerd_{Path(py_file).parent.name}"


class _Implementation(CompileResultCacheImpl):
    """Where files lie and what they are called."""

    _locator_classes = [_Shared, InTreeCacheLocator, UserWideCacheLocator]  # noqa: RUF012  # as numba has it

    def __init__(self, kernel: Dispatcher) -> None:
        self.digest = digest(kernel)
        super().__init__(kernel.py_func)

    def get_filename_base(self, fullname: str, abiflags: str) -> str:
        """Tell versions of a kernel apart by their digests."""
        return f"{fullname}-{self.digest[:_DIGITS]}.{_python(abiflags)}"


class _Files(FunctionCache):
    """The files of one version of a kernel."""

    def __init__(self, kernel: Dispatcher) -> None:
        made = _Implementation(kernel)
        self._impl_class = lambda _function: made  # type: ignore[assignment]  # called, where numba makes its own
        super().__init__(kernel.py_func)
        self._cache_file = IndexDataCacheFile(self.cache_path, made.filename_base, made.digest)

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save, then forget the oldest versions."""
        super().save_overload(sig, data)
        name, _, rest = self._impl.filename_base.rpartition("-")
        _forget_old(Path(self.cache_path), name, rest.partition(".")[2])


class KernelCache(NullCache):
    """What a dispatcher of numba's asks for machine code; the digest is computed when it first does."""

    def __init__(self, kernel: Dispatcher) -> None:
        self._kernel = kernel

    @cached_property
    def _files(self) -> _Files:
        return _Files(self._kernel)

    @property
    def cache_path(self) -> str:
        """The folder of the files."""
        return str(self._files.cache_path)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Load code for arguments of these types; None if there is none."""
        return self._files.load_overload(sig, target_context)

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save code for arguments of these types."""
        self._files.save_overload(sig, data)


def _python(abiflags: str) -> str:
    return f"py{sys.version_info[0]}{sys.version_info[1]}{abiflags}"


def _forget_old(folder: Path, name: str, python: str) -> None:
    """Remove all but the newest versions of a kernel, and those named by line numbers, as numba does."""
    # Another process may be removing the same files, or may have lost the right to.
    with suppress(OSError):
        indices = sorted(folder.glob(f"{name}-*.{python}.nbi"), key=lambda path: path.stat().st_mtime, reverse=True)
        by_digest = [path for path in indices if len(_version(path, name)) == _DIGITS]
        for path in {*indices} - {*by_digest[:_KEPT]}:
            path.unlink(missing_ok=True)
            for code in folder.glob(f"{path.stem}.*.nbc"):
                code.unlink(missing_ok=True)


def _version(index: Path, name: str) -> str:
    return index.name[len(name) + 1 :].partition(".")[0]
