"""What a row of the table of parameters says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from enum import IntEnum

    from samplerd_server.core.enums import Step

__all__ = ["ParamKind", "Parameter", "Range"]


class ParamKind(Enum):
    """What kind of value a parameter has.

    A request's parameters are checked in this order of kinds; those that exclude each other, right after CHOICE.
    """

    CHOICE = auto()
    """One value of an enumeration: `Parameter.choices` says of which."""
    CHOICES = auto()
    """Distinct values of an enumeration, in an order that matters; none is the same as absence."""
    LOGIT_BIAS = auto()
    """Distinct ids within [0, V), each with a number to add to its logit: any but NaN and +inf."""
    FLOAT = auto()
    """A finite float64."""
    INTEGER = auto()
    """A whole number >= 0."""
    FLAG = auto()
    """True or false; false is absence."""
    GROUP = auto()
    """Numbers and ids under one name; `Parameter.fields` says which."""
    IDS = auto()
    """Ids within [0, V), at most limits.max_ids_per_list of them; an empty list is the same as none."""
    SEQUENCES = auto()
    """Sequences of ids within [0, V): none is empty, and all together have at most limits.max_ids_per_list ids."""
    BITMASK = auto()
    """int32 words as bytes, little-endian, at most ceil(V / 32) of them: token j is bit j mod 32 of word j div 32."""


@dataclass(frozen=True, slots=True)
class Range:
    """An interval of numbers. An infinite end is always open: every parameter is finite."""

    low: float = -math.inf
    high: float = math.inf
    low_is_open: bool = False
    high_is_open: bool = False

    def __contains__(self, value: float) -> bool:
        """Tell whether a number lies within; NaN does not."""
        is_above = value > self.low if self.low_is_open else value >= self.low
        is_below = value < self.high if self.high_is_open else value <= self.high
        return is_above and is_below and math.isfinite(value)

    def __str__(self) -> str:
        """Write the interval as errors do: ``(0.0, 1.0]``."""
        low = "(" if self.low_is_open or math.isinf(self.low) else "["
        high = ")" if self.high_is_open or math.isinf(self.high) else "]"
        return f"{low}{self.low}, {self.high}{high}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One sampling parameter, or one field of a group of them."""

    name: str
    """Its field in the contract."""
    kind: ParamKind
    step: Step
    """The step of the pipeline that it acts in."""
    help: str
    """One sentence for --help, docstrings and documentation: what it does, in the imperative where that is possible."""
    metavar: str
    """What stands for its value in --help."""
    default: float | None = None
    """Numbers: what absence means; also what 0 means, where 0 is out of range. None: absence is all that there is."""
    off: float | None = None
    """Numbers: the value at which it does nothing; None if it cannot be turned off by itself."""
    range: Range = Range()
    """Numbers: which are accepted."""
    choices: type[IntEnum] | None = None
    """CHOICE, CHOICES: the enumeration, named as in the contract. Of a CHOICE its first value is what absence means."""
    clamps_to_vocab: bool = False
    """INTEGER: a number above V means V. Other integers are clamped to the largest int32."""
    excludes: str = ""
    """Another parameter that must not be given together with it."""
    changes_argmax: bool = False
    """Whether it may make another id the most likely one. No parameter of a later step than the penalties is looked at
    with T = 0."""
    decided_with_candidates: str = ""
    """When a row of candidates that uses it can still be drawn from: the rest of "decided ...". Empty = always."""
    source: str = ""
    """The paper or the system that it comes from."""
    fields: tuple[Parameter, ...] = ()
    """GROUP: its fields."""

    @property
    def attributes(self) -> tuple[str, ...]:
        """The fields of `core.params.SamplingParams` (of `core.params.Dry`, within a group) that hold it."""
        if self.kind is ParamKind.LOGIT_BIAS:
            return ("bias_ids", "bias_values")
        return (f"{self.name}_ids", f"{self.name}_ends") if self.kind is ParamKind.SEQUENCES else (self.name,)
