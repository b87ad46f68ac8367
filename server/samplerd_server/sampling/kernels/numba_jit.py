"""How the CPU kernels are compiled: one decorator, so that no kernel is compiled in a way of its own.

Rule 1: no fast-math flag, ever. Reassociation optimises away rounding tricks and makes sums depend on the vector width;
a kernel vectorises because its loops are elementwise, or reductions of integers. Rule 2: machine code is cached on
disk, keyed by the CPU and by all that a kernel is made of (code_digest.py), so that compiling happens at install, at
image build or at warm-up, never on a request. Rule 3: no call into libm, whose last bits differ between machines;
exp2.py has what is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numba
from llvmlite import ir
from numba.core import registry, types
from numba.extending import intrinsic
from numba.np.arrayobj import np_cfarray

from samplerd_server.sampling.kernels.code_cache import KernelCache
from samplerd_server.sampling.kernels.compiler import KernelCompiler, PartCompiler, PartDispatcher, SharedDispatcher

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
    "rint32",
    "rint64",
    "shared",
    "short_kernel",
    "uint8_at",
    "uint64_at",
]


ENTRY_POINTS: list[Any] = []
"""Every kernel of the modules that have been imported."""


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a part of kernels: without the interpreter lock, with C's arithmetic errors, for kernels to call.

    It counts no references to arrays, which a call for each number would do for each array that it takes, so it can
    make none, and must return none that a kernel's caller or `allocating` made.
    """
    return _part(function, counts_references=False)


def allocating(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a part of kernels that makes arrays, or is given one by a part that does."""
    return _part(function, counts_references=True)


def _part(function: Callable[..., Any], *, counts_references: bool) -> Callable[..., Any]:
    options = _options(counts_references=counts_references)
    return PartDispatcher(function, targetoptions=options, pipeline_class=PartCompiler)


def _options(*, counts_references: bool) -> dict[str, Any]:
    return {
        "nopython": True,
        "nogil": True,
        "boundscheck": None,
        "error_model": "numpy",
        "no_cpython_wrapper": True,
        "no_cfunc_wrapper": True,
        "_nrt": counts_references,
    }


def shared(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a part that several kernels need to machine code of its own, kept on disk: shared_parts.py."""
    return cast("Callable[..., Any]", SharedDispatcher(function, _options(counts_references=False)))


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a part of kernels into each of its callers: for a few lines whose call takes longer than they do."""
    part: Any = jit(function)
    part.targetoptions["forceinline"] = True
    return cast("Callable[..., Any]", part)


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile an entry point, with all its parts, and keep its machine code on disk."""
    return _entry_point(function, nogil=True)


def short_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile an entry point that keeps the interpreter lock: for work shorter than it takes to hand the lock over."""
    return _entry_point(function, nogil=False)


def _entry_point(function: Callable[..., Any], *, nogil: bool) -> Callable[..., Any]:
    compiled: Any = numba.njit(nogil=nogil, error_model="numpy", pipeline_class=KernelCompiler)(function)
    compiled._cache = KernelCache(compiled, "kernel")  # noqa: SLF001  # as numba's own `enable_caching` does
    ENTRY_POINTS.append(compiled)
    return cast("Callable[..., Any]", compiled)


def _unary(name: str, take: types.Type, give: types.Type, build: Callable[[ir.IRBuilder, ir.Value], ir.Value]) -> Any:
    """One LLVM operation of one operand, as a function that kernels can call."""

    def typer(_context: Any, _x: Any) -> Any:
        return give(take), lambda _c, builder, _s, args: build(builder, args[0])

    typer.__name__ = typer.__qualname__ = name
    return intrinsic(typer)


def _fused(name: str, kind: types.Type) -> Any:
    """Multiply and add with one rounding: ``a * b + c``."""

    def typer(_context: Any, _a: Any, _b: Any, _c: Any) -> Any:
        def build(_context: Any, builder: ir.IRBuilder, _signature: Any, args: Any) -> ir.Value:
            return builder.fma(*args)

        return kind(kind, kind, kind), build

    typer.__name__ = typer.__qualname__ = name
    return intrinsic(typer)


def _round(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """To the nearest whole number, ties to even; one instruction everywhere."""
    return builder.call(builder.module.declare_intrinsic("llvm.rint", [x.type]), [x])


def _load(name: str, stored: ir.Type, give: types.Type, build: Callable[[ir.IRBuilder, ir.Value], ir.Value]) -> Any:
    """Load number ``index`` of those stored at ``address``, which need not be aligned."""

    def typer(_context: Any, _address: Any, _index: Any) -> Any:
        def code(_context: Any, builder: ir.IRBuilder, _signature: Any, args: Any) -> ir.Value:
            first = builder.inttoptr(args[0], stored.as_pointer())
            value = builder.load(builder.gep(first, [args[1]]))
            value.align = 1
            return build(builder, value)

        return give(types.uint64, types.int64), code

    typer.__name__ = typer.__qualname__ = name
    return intrinsic(typer)


def _pointer(name: str, element: types.Type) -> Any:
    """Take an address as a pointer; an array made of it has no owner, so that passing it on counts no references."""

    def typer(_context: Any, _address: Any) -> Any:
        give = types.CPointer(element)  # type: ignore[no-untyped-call]

        def code(context: Any, builder: ir.IRBuilder, _signature: Any, args: Any) -> ir.Value:
            return builder.inttoptr(args[0], context.get_value_type(give))

        return give(types.uint64), code

    typer.__name__ = typer.__qualname__ = name
    return intrinsic(typer)


def _prefetch(_context: Any, _address: Any) -> Any:
    """Ask for the cache line at an address, which will be written, without waiting for it."""

    def code(_context: Any, builder: ir.IRBuilder, _signature: Any, args: Any) -> ir.Value:
        kind = ir.FunctionType(ir.VoidType(), [_I8.as_pointer(), _I32, _I32, _I32])
        ask = builder.module.declare_intrinsic("llvm.prefetch", [_I8.as_pointer()], kind)
        will_write, keep, data = ir.Constant(_I32, 1), ir.Constant(_I32, 3), ir.Constant(_I32, 1)
        builder.call(ask, [builder.inttoptr(args[0], _I8.as_pointer()), will_write, keep, data])
        return ir.Constant(_I8.as_pointer(), None)

    return types.none(types.uint64), code


def _array(_context: Any, pointer: Any, length: Any) -> Any:
    """Make an array of what is at a pointer: as numba.carray does, without a function of its own to compile."""
    return types.Array(pointer.dtype, 1, "C")(pointer, length), np_cfarray


def _at_least(_context: Any, _address: Any, _low: Any) -> Any:
    """Tell of 64 float32 at an address which are at least a number: bit i of the answer for the i-th."""

    def code(_context: Any, builder: ir.IRBuilder, _signature: Any, args: Any) -> ir.Value:
        vector = ir.VectorType(_F32, 64)
        numbers = builder.load(builder.inttoptr(args[0], vector.as_pointer()))
        numbers.align = 4
        first = builder.insert_element(ir.Constant(vector, ir.Undefined), args[1], ir.Constant(_I32, 0))
        every = ir.Constant(ir.VectorType(_I32, 64), None)
        low = builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), every)
        return builder.bitcast(builder.fcmp_ordered(">=", numbers, low), _I64)

    return types.uint64(types.uint64, types.float32), code


def _bits_of(name: str) -> Any:
    """One of LLVM's counts of bits, of a uint64."""

    def typer(_context: Any, _x: Any) -> Any:
        def code(_context: Any, builder: ir.IRBuilder, _signature: Any, args: Any) -> ir.Value:
            operands = [*args, *([ir.Constant(_I1, 0)] if name == "cttz" else [])]
            kind = ir.FunctionType(_I64, [operand.type for operand in operands])
            return builder.call(builder.module.declare_intrinsic(f"llvm.{name}", [_I64], kind), operands)

        return types.int64(types.uint64), code

    typer.__name__ = typer.__qualname__ = name
    return intrinsic(typer)


carray: Any = intrinsic(_array)
prefetch: Any = intrinsic(_prefetch)

_I1, _I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
_HALF = ir.HalfType()
_F32, _F64 = ir.FloatType(), ir.DoubleType()


def _widen_bf16(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    return builder.bitcast(builder.shl(builder.zext(value, _I32), ir.Constant(_I32, 16)), _F32)


def _widen_f16(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """To binary32, exactly; a NaN stays one. A processor without F16C has no instruction for it.

    LLVM would call a function of a compiler's run-time library, which no process of Python has. Instead, the ten bits
    of the fraction and the five of the exponent are put where binary32 has them, and a multiplication moves the
    exponent's bias from 15 to 127; that is exact for subnormal numbers too.
    """
    if _has_f16c():
        return builder.fpext(builder.bitcast(value, _HALF), _F32)
    wide = builder.zext(value, _I32)
    magnitude = builder.and_(wide, ir.Constant(_I32, 0x7FFF))
    placed = builder.bitcast(builder.shl(magnitude, ir.Constant(_I32, 13)), _F32)
    scaled = builder.bitcast(builder.fmul(placed, ir.Constant(_F32, 2.0**112)), _I32)
    is_finite = builder.icmp_unsigned("<", magnitude, ir.Constant(_I32, 0x7C00))
    bits = builder.select(is_finite, scaled, builder.or_(scaled, ir.Constant(_I32, 0x7F800000)))
    sign = builder.shl(builder.and_(wide, ir.Constant(_I32, 0x8000)), ir.Constant(_I32, 16))
    return builder.bitcast(builder.or_(bits, sign), _F32)


def _has_f16c() -> bool:
    """Tell whether the processor that is compiled for converts binary16; it is part of the cache's key."""
    triple, _, features = registry.cpu_target.target_context.codegen().magic_tuple()
    return not triple.startswith(("x86", "i")) or "+f16c" in features.split(",")


def _narrow_f64(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """To binary32; what was finite and is not any more becomes +inf, which every row check reports."""
    narrow = builder.fptrunc(value, _F32)
    lost = builder.and_(
        builder.fcmp_ordered("==", narrow, ir.Constant(_F32, float("-inf"))),
        builder.fcmp_ordered("!=", value, ir.Constant(_F64, float("-inf"))),
    )
    return builder.select(lost, ir.Constant(_F32, float("inf")), narrow)


at_least_64: Any = intrinsic(_at_least)
count_ones = _bits_of("ctpop")
count_trailing_zeros = _bits_of("cttz")
fma32 = _fused("fma32", types.float32)
fma64 = _fused("fma64", types.float64)
rint32 = _unary("rint32", types.float32, types.float32, _round)
rint64 = _unary("rint64", types.float64, types.float64, _round)
as_bits = _unary("as_bits", types.float32, types.int32, lambda builder, x: builder.bitcast(x, _I32))
as_float = _unary("as_float", types.int32, types.float32, lambda builder, x: builder.bitcast(x, _F32))
as_bits64 = _unary("as_bits64", types.float64, types.int64, lambda builder, x: builder.bitcast(x, _I64))
as_float64 = _unary("as_float64", types.int64, types.float64, lambda builder, x: builder.bitcast(x, _F64))
load_f32 = _load("load_f32", _F32, types.float32, lambda _builder, value: value)
load_f16 = _load("load_f16", _I16, types.float32, _widen_f16)
load_bf16 = _load("load_bf16", _I16, types.float32, _widen_bf16)
load_f64 = _load("load_f64", _F64, types.float32, _narrow_f64)
load_i32 = _load("load_i32", _I32, types.int32, lambda _builder, value: value)
float32_at = _pointer("float32_at", types.float32)
float64_at = _pointer("float64_at", types.float64)
uint64_at = _pointer("uint64_at", types.uint64)
int32_at = _pointer("int32_at", types.int32)
int64_at = _pointer("int64_at", types.int64)
uint8_at = _pointer("uint8_at", types.uint8)
