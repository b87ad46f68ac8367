"""Parts with machine code of their own: what several kernels need is compiled once, and each of them calls it.

A kernel is optimised as one module with its parts (compiler.py). What takes a row through the filters is most of three
kernels, and was made into machine code in each. A shared part is compiled and cached as a kernel is; a kernel that
calls it holds only its symbol, which LLVM looks up when it loads the kernel.

Rule 1: a symbol names the digest of the part's code, so whatever a process has under that name is what the kernel was
compiled with. Rule 2: the shared parts of a kernel are loaded before it is, since LLVM ends a process that lacks a
symbol. Rule 3: a shared part is for what takes long beside a call, or is rare: nothing of it is optimised together with
its callers. It takes a thread's memory by reference (references.py).
"""

# Numba's compiler has annotations here and there only.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from llvmlite import binding

__all__ = [
    "Symbol",
    "add_part",
    "all_parts",
    "load",
    "needed_by",
    "note_needed",
    "publish",
    "symbol_name",
    "symbol_of",
]


@dataclass(frozen=True, slots=True)
class Symbol:
    """One shared part, compiled for one list of arguments, as the cache stores it with a kernel that calls it."""

    part: str
    """Module and qualified name of the function."""
    arguments: tuple[Any, ...]
    """Numba's types."""
    name: str
    """What LLVM looks up."""


@dataclass(frozen=True, slots=True)
class _Published:
    """What a library of a shared part defines."""

    own_name: str
    """What numba calls the function in this process."""
    symbol: Symbol


_parts: dict[str, Any] = {}
"""Dispatchers of the modules that have been imported, by the name of their function; they own the machine code."""
_published: WeakKeyDictionary[Any, _Published] = WeakKeyDictionary()
"""By library."""
_needed: WeakKeyDictionary[Any, tuple[Symbol, ...]] = WeakKeyDictionary()
"""What was linked into a library by its symbol, by library."""


def add_part(dispatcher: Any) -> None:
    """Make a shared part known, so that kernels in the cache find it by name."""
    _parts[_name_of(dispatcher)] = dispatcher


def all_parts() -> list[Any]:
    """Give every shared part of the modules that have been imported."""
    return list(_parts.values())


def publish(dispatcher: Any, arguments: tuple[Any, ...], digest: str) -> None:
    """Let kernels call a shared part that was compiled or loaded for these arguments."""
    compiled = dispatcher.overloads[arguments]
    if compiled.library in _published:
        return
    own_name = compiled.fndesc.mangled_name
    symbol = Symbol(_name_of(dispatcher), arguments, symbol_name(dispatcher, arguments, digest))
    binding.add_symbol(symbol.name, compiled.library.get_pointer_to_function(own_name))
    _published[compiled.library] = _Published(own_name, symbol)


def symbol_name(dispatcher: Any, arguments: tuple[Any, ...], digest: str) -> str:
    """Give the name by which kernels call a shared part that is compiled for these arguments."""
    types = hashlib.sha256(repr(arguments).encode()).hexdigest()
    return f"{_name_of(dispatcher)}.{digest[:32]}.{types[:16]}"


def symbol_of(library: Any) -> tuple[str, Symbol] | None:
    """Give numba's own name and the symbol of the shared part that a library holds; None if it holds none."""
    own = _published.get(library)
    return None if own is None else (own.own_name, own.symbol)


def note_needed(library: Any, symbols: tuple[Symbol, ...]) -> None:
    """Note what a library's code looks up when it is loaded."""
    _needed[library] = symbols


def needed_by(library: Any) -> tuple[Symbol, ...]:
    """Give what a library's code looks up when it is loaded."""
    return _needed.get(library, ())


def load(symbols: tuple[Symbol, ...]) -> None:
    """Load or compile shared parts, before a kernel that calls them is loaded.

    Raises:
        LookupError: this process has another version of one of them.

    """
    for symbol in symbols:
        if binding.address_of_symbol(symbol.name) is None and symbol.part in _parts:
            _parts[symbol.part].compile(symbol.arguments)
        if binding.address_of_symbol(symbol.name) is None:
            raise LookupError(f"there is no {symbol.part} for this kernel")


def _name_of(dispatcher: Any) -> str:
    return f"{dispatcher.py_func.__module__}.{dispatcher.py_func.__qualname__}"
