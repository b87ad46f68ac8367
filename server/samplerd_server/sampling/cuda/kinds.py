"""Distributions as outputs see them, and where outputs lie."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: SIM108 -- kernels have no keywords, and branch where a row does

from __future__ import annotations

from enum import IntEnum

import triton
import triton.language as tl

from samplerd_server.sampling.cuda.arithmetic import ln
from samplerd_server.sampling.cuda.rows import Field, load_numbers

__all__ = ["Output", "load_kind", "relative", "singles", "whole_numbers"]


class Output(IntEnum):
    """Places of the addresses of outputs, int64: those of three kinds begin with that of the raw one."""

    LOGPROBS = 0
    TOP_IDS = 3
    TOP_LOGPROBS = 6
    NAMED = 9
    ENTROPY = 12
    RANKS = 15
    KEPT_COUNT = 16
    KEPT_MASS = 17
    UNSHAPED = 18
    """float64; the others are int32 or float32."""


_ADDRESS, _WIDTH, _DTYPE = tl.constexpr(Field.ADDRESS), tl.constexpr(Field.WIDTH), tl.constexpr(Field.DTYPE)
_IS_WEIGHTS, _TEMPERATURE = tl.constexpr(Field.IS_WEIGHTS), tl.constexpr(Field.TEMPERATURE)


@triton.jit
def load_kind(record):
    """Load what a distribution is made of: address, dtype, width, is_weights and temperature."""
    address, width = tl.load(record + _ADDRESS), tl.load(record + _WIDTH).to(tl.int32)
    dtype, is_weights = tl.load(record + _DTYPE).to(tl.int32), tl.load(record + _IS_WEIGHTS).to(tl.int32)
    return address, dtype, width, is_weights, tl.load(record + _TEMPERATURE).to(tl.float64, bitcast=True)


@triton.jit
def singles(outputs, place):
    """Find the outputs of a place, float32."""
    return tl.load(outputs + place).to(tl.pointer_type(tl.float32))


@triton.jit
def whole_numbers(outputs, place):
    """Find the outputs of a place, int32."""
    return tl.load(outputs + place).to(tl.pointer_type(tl.int32))


@triton.jit
def relative(kind, at, top):
    """Compute the exponent of the number at a position of a distribution, relative to `top`."""
    address, dtype, width, is_weights, temperature = load_kind(kind)
    value = load_numbers(address, dtype, at, width, 0.0).to(tl.float64)
    if is_weights != 0:
        exponent = ln(value) / temperature - top
    else:
        exponent = value / temperature - top
    return exponent
