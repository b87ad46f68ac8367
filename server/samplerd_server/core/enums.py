"""The enumerations of the contract, with the numbers of the proto."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Dtype", "InputKind", "LogprobKind", "Order", "PenaltyScope", "RowErrorReason", "Step", "XtcExemption"]


class Dtype(IntEnum):
    """How numbers are stored; the numbers of the proto's enum."""

    F32 = 1
    F16 = 2
    BF16 = 3
    F64 = 4

    @property
    def itemsize(self) -> int:
        """Bytes of one number."""
        return _ITEMSIZE[self]


_ITEMSIZE = {Dtype.F32: 4, Dtype.F16: 2, Dtype.BF16: 2, Dtype.F64: 8}


class InputKind(IntEnum):
    """What the numbers of a row mean; the numbers of the proto's enum."""

    LOGITS = 1
    PROBABILITIES = 2


class Order(IntEnum):
    """The order of the filters, named after the system that uses it; the numbers of the proto's enum."""

    HUGGING_FACE = 1
    VLLM = 2
    LLAMA_CPP = 3
    JOINT = 4


class PenaltyScope(IntEnum):
    """Which of the tokens in history a penalty looks at; the numbers of the proto's enum."""

    HISTORY = 1
    OUTPUT = 2


class XtcExemption(IntEnum):
    """What XTC does where it would drop a token that is exempt; the numbers of the proto's enum."""

    TOKEN = 1
    ROW = 2


class LogprobKind(IntEnum):
    """The distribution that a log-probability is taken from; the numbers of the proto's enum."""

    RAW = 1
    SCALED = 2
    PROCESSED = 3


class RowErrorReason(IntEnum):
    """Why a row failed; the numbers of the proto's enum. 0 = the row did not fail."""

    NONE = 0
    NAN = 1
    POSITIVE_INFINITY = 2
    NEGATIVE_WEIGHT = 3
    NOTHING_TO_DRAW = 4
    TOO_FEW_TO_DRAW = 5
    OUTSIDE_CANDIDATES = 6


class Step(IntEnum):
    """The steps of the pipeline (docs/sampling.md); what a row error names when nothing is left to draw."""

    INPUT = 0
    GUIDANCE = 1
    MASK = 2
    BIAS = 3
    PENALTIES = 4
    TEMPERATURE = 5
    FILTERS = 6
