"""The enumerations of the contract, with the numbers of the proto."""

from __future__ import annotations

from enum import IntEnum

__all__ = [
    "Dtype",
    "FilterStep",
    "InputKind",
    "LogprobKind",
    "Order",
    "PenaltyScope",
    "RowErrorReason",
    "Step",
    "TieRule",
    "XtcExemption",
]


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


class FilterStep(IntEnum):
    """A step of a free order: the temperature, or a filter of this name; the numbers of the proto's enum."""

    TEMPERATURE = 1
    TOP_N_SIGMA = 2
    TOP_K = 3
    TOP_P = 4
    MIN_P = 5
    TOP_A = 6
    TYPICAL_P = 7
    EPSILON_CUTOFF = 8
    ETA_CUTOFF = 9
    XTC = 10
    TOP_H = 11


class TieRule(IntEnum):
    """Which of the categories that are equal to the last one kept stay; the numbers of the proto's enum."""

    LOWEST_ID = 1
    ALL = 2
    HIGHEST_ID = 3
    HUGGING_FACE = 4
    MLX_LM = 5


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
    DRAW = 7
