"""`sampling.arithmetic` in compiled code, with what is exact done by bits, so that loops over numbers vectorise."""

# mypy: disable-error-code="no-untyped-def, assignment"

from __future__ import annotations

from samplerd_server.sampling.arithmetic import arithmetic
from samplerd_server.sampling.kernels.compile import as_bits64, as_float64, jit

__all__ = ["exp", "exp2", "from_whole", "ln", "log2", "power", "to_whole"]

_ROUNDER = 6755399441055744.0
"""1.5 x 2^52: added to a number of less than 2^51, it leaves the nearest whole number in the low bits of the sum."""
_WHOLE = 4503599627370496.0
"""2^52, which does the same for numbers >= 0."""
_WHOLE_BITS = 0x4330000000000000


@jit
def _rint(t):
    return (t + _ROUNDER) - _ROUNDER


@jit
def _power_of_two(n):
    return as_float64((as_bits64(n + _ROUNDER) << 52) + (1023 << 52))


@jit
def _split(x):
    # The biased exponent becomes the low bits of 2^52 + itself: no conversion of an integer, which few vectors have.
    bits = as_bits64(x)
    n = as_float64((bits >> 52) | _WHOLE_BITS) - (_WHOLE + 1022.0)
    return as_float64((bits & 0xFFFFFFFFFFFFF) | (0x3FE << 52)), n


@jit
def _where(condition, chosen, other):
    return chosen if condition else other


exp2, log2, exp, ln, power = arithmetic(
    rint=_rint, power_of_two=_power_of_two, split=_split, where=_where, compiled=jit
)


@jit
def to_whole(v):
    """Round a float64 in [0, 2^51] to the nearest int64, ties to even."""
    return as_bits64(v + _WHOLE) - _WHOLE_BITS


@jit
def from_whole(m):
    """Convert an int64 in [0, 2^52) to float64."""
    return as_float64(m | _WHOLE_BITS) - _WHOLE
