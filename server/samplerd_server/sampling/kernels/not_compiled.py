"""What stands for numba in a process that draws with linked kernels: the parts of kernels are left as they are written.

Nothing calls them, since a linked kernel holds the machine code of its parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from samplerd_server.sampling.kernels.linked import entry

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "ENTRY_POINTS",
    "allocating",
    "as_bits",
    "as_bits64",
    "as_float",
    "as_float64",
    "at_least_64",
    "carray",
    "count_ones",
    "count_trailing_zeros",
    "dereference",
    "float32_at",
    "float64_at",
    "fma32",
    "fma64",
    "inlined",
    "int32_at",
    "int64_at",
    "jit",
    "kernel",
    "load_bf16",
    "load_f16",
    "load_f32",
    "load_f64",
    "load_i32",
    "prefetch",
    "reference",
    "rint32",
    "rint64",
    "shared",
    "short_kernel",
    "uint8_at",
    "uint64_at",
]

ENTRY_POINTS: list[Any] = []
"""Nothing is compiled here."""


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Leave a part of kernels as it is."""
    return function


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give the linked kernel in place of the function that it was compiled from."""
    return entry(f"{function.__module__}.{function.__qualname__}")


def _absent(*_: Any) -> Any:
    raise TypeError("a part of a kernel was called in a process that compiles nothing. This is a bug.")


allocating = inlined = shared = jit
short_kernel = kernel
as_bits = as_bits64 = as_float = as_float64 = at_least_64 = carray = _absent
count_ones = count_trailing_zeros = float32_at = float64_at = fma32 = fma64 = _absent
int32_at = int64_at = load_bf16 = load_f16 = load_f32 = load_f64 = _absent
load_i32 = prefetch = rint32 = rint64 = uint8_at = uint64_at = _absent
dereference = reference = _absent
