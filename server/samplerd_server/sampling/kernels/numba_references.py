"""The two intrinsics of `references.py`, as numba compiles them."""

# Numba's compiler has annotations here and there only.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numba.core import cgutils, types
from numba.extending import intrinsic

if TYPE_CHECKING:
    from llvmlite import ir

__all__ = ["dereference", "reference"]


def _reference(_context: Any, value: Any) -> Any:
    """Write a record down in the frame of the function that calls this, and give where it lies."""

    def code(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        place = cgutils.alloca_once_value(builder, args[0])
        return builder.bitcast(place, context.get_value_type(signature.return_type))

    return types.CPointer(value)(value), code


def _dereference(_context: Any, place: Any) -> Any:
    """Give the record that lies there."""

    def code(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        kind = context.get_value_type(signature.return_type)
        return builder.load(builder.bitcast(args[0], kind.as_pointer()))

    return place.dtype(place), code


reference: Any = intrinsic(_reference)
dereference: Any = intrinsic(_dereference)
