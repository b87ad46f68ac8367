"""Compiles the kernels for GPUs without one: machine code and assembly of each architecture, from the same source.

Rule 1: no contraction. `enable_fp_fusion=False` keeps `a * b + c` two roundings, in the compiler and in the assembler.
Rule 2: the process is one that does not interpret: see `interpreter.py`, rule 1. Rule 3: a thread may have all
registers that there are. Left to itself, the assembler stops at 128 or 168 so that more programs fit on a processor,
and keeps the rest in local memory; but a program is a row, and rows are few.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from samplerd_server.sampling.cuda.adjust import adjust
from samplerd_server.sampling.cuda.describe import describe
from samplerd_server.sampling.cuda.judge import judge
from samplerd_server.sampling.cuda.measure import measure
from samplerd_server.sampling.cuda.moments import moments
from samplerd_server.sampling.cuda.pick import pick
from samplerd_server.sampling.cuda.select import select
from samplerd_server.sampling.cuda.without import draw_left

__all__ = ["ARCHITECTURES", "KERNELS", "REGISTERS", "build", "compile_kernel"]

ARCHITECTURES = (80, 86, 89, 90, 100, 120)
"""Compute capabilities, ten times: A100, GeForce 30 and A10, GeForce 40 and L4, H100 and H200, B200, GeForce 50."""

REGISTERS = 255
"""Registers of a thread, at most: with eight warps, as `select` has, just those of one processor."""

KERNELS: dict[str, tuple[Any, dict[str, str], int]] = {
    "measure": (
        measure,
        {"records": "*i64", "tasks": "*i32", "maxima": "*fp32", "bits": "*i32", "sums": "*fp64"},
        1,
    ),
    "adjust": (
        adjust,
        {
            "records": "*i64",
            "changes": "*i64",
            "maxima": "*fp32",
            "bits": "*i32",
            "reasons": "*i32",
            "details": "*i64",
        },
        4,
    ),
    "select": (
        select,
        {
            "records": "*i64",
            "tasks": "*i64",
            "maxima": "*fp32",
            "bits": "*i32",
            "sums": "*fp64",
            "numbers": "*fp32",
            "positions": "*i32",
            "masses": "*i64",
            "keys": "*i64",
            "reasons": "*i32",
            "details": "*i64",
        },
        8,
    ),
    "moments": (moments, {"records": "*i64", "tasks": "*i32", "maxima": "*fp32", "terms": "*fp64"}, 1),
    "describe": (
        describe,
        {
            "records": "*i64",
            "tasks": "*i64",
            "maxima": "*fp32",
            "sums": "*fp64",
            "terms": "*fp64",
            "scales": "*fp64",
            "ends": "*fp64",
            "left": "*fp32",
            "spare": "*fp64",
            "trees": "*i64",
            "masses": "*i64",
            "positions": "*i32",
            "reasons": "*i32",
            "details": "*i64",
            "samples": "*i32",
            "status": "*i32",
            "detail": "*i64",
            "outputs": "*i64",
        },
        4,
    ),
    "judge": (
        judge,
        {
            "records": "*i64",
            "tasks": "*i64",
            "draft_ids": "*i32",
            "parents": "*i32",
            "maxima": "*fp32",
            "bits": "*i32",
            "sums": "*fp64",
            "scales": "*fp64",
            "ends": "*fp64",
            "spare": "*fp64",
            "positions": "*i32",
            "residual": "*fp64",
            "reasons": "*i32",
            "details": "*i64",
            "path": "*i32",
            "verdict": "*i64",
        },
        4,
    ),
    "draw_left": (
        draw_left,
        {
            "records": "*i64",
            "tasks": "*i64",
            "maxima": "*fp32",
            "bits": "*i32",
            "sums": "*fp64",
            "trees": "*i64",
            "samples": "*i32",
            "status": "*i32",
            "detail": "*i64",
        },
        4,
    ),
    "pick": (
        pick,
        {
            "records": "*i64",
            "tasks": "*i64",
            "maxima": "*fp32",
            "bits": "*i32",
            "sums": "*fp64",
            "scales": "*fp64",
            "ends": "*fp64",
            "spare": "*fp64",
            "samples": "*i32",
            "status": "*i32",
            "detail": "*i64",
        },
        1,
    ),
}
"""Each kernel with the types of its arguments and its warps."""


def compile_kernel(kernel_name: str, architecture: int) -> Any:
    """Compile one kernel; returns what triton calls a compiled kernel, with `asm` and `metadata`.

    Raises:
        RuntimeError: the process interprets kernels.

    """
    if triton.knobs.runtime.interpret:
        message = "kernels cannot be compiled where TRITON_INTERPRET is set"
        raise RuntimeError(message)
    kernel, signature, warps = KERNELS[kernel_name]
    return triton.compile(
        ASTSource(fn=kernel, signature=signature, constexprs={}),
        target=GPUTarget("cuda", architecture, 32),
        options={"num_warps": warps, "enable_fp_fusion": False, "maxnreg": REGISTERS},
    )


def build(kernel_name: str, architecture: int) -> dict[str, Any]:
    """Compile one kernel.

    Returns what the compiler made by name: ``ptx`` is the assembly, as text, and ``cubin`` the machine code.

    Raises:
        RuntimeError: the process interprets kernels.

    """
    asm: dict[str, Any] = compile_kernel(kernel_name, architecture).asm
    return asm
