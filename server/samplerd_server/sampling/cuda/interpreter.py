"""Triton's interpreter, made exact: it runs the kernels' source on the CPU, a program at a time, with numpy.

Rule 1: `TRITON_INTERPRET` must be 1 in the environment before triton is imported anywhere in the process, since its own
functions are decorated then. Rule 2: `fma` of triton 3.7 rounds twice in the interpreter, as numpy's
x * y + z does (findings/triton_interpreter_fma_rounds_twice.sh); `make_exact` puts one instruction of the processor in
its place. Rule 3: no global constant stands left of an operator: the interpreter refuses it
(findings/triton_interpreter_refuses_a_constant_on_the_left.sh). Rule 4: the language is made to interpret once. The
interpreter looks through all of it again at each call of one function by another, which takes longer than the call.
"""

# mypy: disable-error-code="no-untyped-call"
# ruff: noqa: SLF001 -- nothing public makes the interpreter exact, or quick

from __future__ import annotations

import math
from functools import cache
from types import FunctionType
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
import triton
import triton.language as tl
from triton.runtime import interpreter

from samplerd_server.sampling.kernels.compile import fma32, fma64

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["launch", "make_exact"]

_UINT64 = np.dtype(np.uint64)
"""What the interpreter keeps a pointer as."""


@cache
def _shape_of(lengths: tuple[int, ...]) -> tuple[Any, Any]:
    """Make what the language calls a shape, and how many numbers it has: made once, for all tensors that have it."""
    return tl.tuple([tl.constexpr(length) for length in lengths]), tl.constexpr(math.prod(lengths))


def _begin(own: Any, handle: Any, type: Any) -> None:  # noqa: A002  # the language names it
    """Do what the constructor of a tensor does."""
    own.handle, own.type, own.dtype = handle, type, type.scalar
    own.shape, own.numel = _shape_of(tuple(type.shape.values) if type.is_block() else ())


@cache
def make_exact() -> None:
    """Let the interpreter's `fma` round once, and let functions that call each other do so at once.

    Raises:
        RuntimeError: triton was imported to compile, not to interpret.

    """
    if not triton.knobs.runtime.interpret:
        message = "set TRITON_INTERPRET=1 before triton is imported: its interpreter is not on"
        raise RuntimeError(message)
    single = numba.vectorize(["float32(float32, float32, float32)"])(lambda x, y, z: fma32(x, y, z))  # noqa: PLW0108  # an intrinsic is no function
    double = numba.vectorize(["float64(float64, float64, float64)"])(lambda x, y, z: fma64(x, y, z))  # noqa: PLW0108

    def create_fma(_builder: Any, x: Any, y: Any, z: Any) -> Any:
        fused: Callable[..., Any] = single if x.data.dtype == np.float32 else double
        return interpreter.TensorHandle(fused(x.data, y.data, z.data), z.dtype.scalar)

    interpreter.InterpreterBuilder.create_fma = create_fma
    tl.tensor.__init__ = _begin
    numpy_type = cache(interpreter._get_np_dtype)
    interpreter._get_np_dtype = lambda own: _UINT64 if own.is_ptr() or own.scalar.is_ptr() else numpy_type(own.scalar)
    interpreter._patch_lang(
        FunctionType(create_fma.__code__, {"tl": tl, "core": tl.core}, closure=create_fma.__closure__)
    )
    interpreter.InterpretedFunction.__call__ = lambda own, *arguments, **named: own.rewrite()(*arguments, **named)


def launch(kernel: Any, programs: int, *arguments: Any) -> None:
    """Run the programs of a kernel, one after the other; what a row may hold makes numpy warn, and is meant to."""
    make_exact()
    if programs:
        with np.errstate(all="ignore"):
            kernel[(programs,)](*arguments)
